"""What only the publisher can say about a release: keys of a YAML file, each with the question that it answers."""

from __future__ import annotations

import datetime
import difflib
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from p3mdata.base.parsing import fault, read_yaml
from p3mdata.errors import SettingsError

_MOST = 20_000


def _plain(value: Any) -> Any:
    """A text on lines of printable characters; YAML's dates, numbers, yes and no are texts here, lists become one."""
    if isinstance(value, list):
        if not all(isinstance(part, str | int | float | datetime.date) for part in value):
            raise ValueError("give text, or a list of texts")
        return "; ".join(_plain(part) for part in value) or None
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int | float | datetime.date):
        return str(value)
    if isinstance(value, str):
        lines = ("".join(c if c.isprintable() else " " for c in line).rstrip() for line in value.splitlines())
        if not (text := "\n".join(lines).strip()):
            raise ValueError("says nothing; leave the key out, or answer it")
        return text
    return value


def _key(question: str) -> Any:
    return Field(None, description=question, max_length=_MOST)


_Text = Annotated[str | None, BeforeValidator(_plain)]


class Stated(BaseModel):
    """The publisher's answers; every key may be left out, and is then named in the record as not stated."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    controller: _Text = _key("who is responsible for the processing: name and address of the organisation")
    contact: _Text = _key("address at which people reach it")
    joint_controllers: _Text = _key("who else is responsible; 'none' if nobody")
    representative: _Text = _key("representative in the Union of a controller outside it; 'none' if not needed")
    data_protection_officer: _Text = _key("how to reach the data protection officer; 'none' if there is none")
    creators: _Text = _key("which team made the dataset, and for whom")
    funding: _Text = _key("who paid for it, with numbers of grants")
    purpose: _Text = _key("why photographs of people are processed and the dataset is made")
    legal_basis: _Text = _key("the ground in law, such as consent by Art. 6(1)(a) GDPR")
    people: _Text = _key("which people are on the photographs")
    personal_data: _Text = _key("which kinds of personal data the sources and the release hold")
    special_categories: _Text = _key(
        "data of special categories (Art. 9 GDPR), such as health or belief; 'none' if none"
    )
    children: _Text = _key("whether children are on the photographs, and who agreed for them")
    subpopulations: _Text = _key("groups of people that can be told apart, such as by age, and their shares")
    confidential: _Text = _key("whether anything in the pictures is confidential")
    offensive: _Text = _key("whether anything in the pictures may offend or frighten")
    external_resources: _Text = _key("what outside of the dataset it needs; 'none' if nothing")
    collection: _Text = _key("how the photographs came about: cameras, from the people themselves or from where")
    collected_by: _Text = _key("who took or gathered them, and how they were paid")
    collection_period: _Text = _key("when")
    sampling: _Text = _key("out of which larger set they were chosen, and how; 'none' if all were taken")
    notice: _Text = _key("how the people were told")
    consent: _Text = _key("what the people agreed to, and how")
    withdrawal: _Text = _key("how they can take it back")
    ethics_review: _Text = _key("which board looked at it, and what it said")
    impact_assessment: _Text = _key("the analysis of what the release may do to the people (Art. 35 GDPR)")
    access: _Text = _key("who gets the dataset: everybody, who registers, or by contract")
    recipients: _Text = _key("kinds of recipients of sources and release, those abroad too")
    recipient_controls: _Text = _key("which safeguards of recipients are asked for and checked")
    terms: _Text = _key("terms of use, such as that nobody may try to recognise people")
    transfers: _Text = _key("third countries and organisations that get personal data; 'none' if none")
    transfer_safeguards: _Text = _key("what protects such transfers; 'none' if there are none")
    motives: _Text = _key("who may want to recognise the people, and what they know and can do")
    harms: _Text = _key("what would happen to people who are recognised")
    engagement: _Text = _key("how the people concerned and others were heard")
    retention: _Text = _key("how long sources, run and release are kept")
    raw_data_kept: _Text = _key("whether the photographs as taken are kept, where, and who may see them")
    security: _Text = _key("technical and organisational measures of your house beside the tool's")
    roles: _Text = _key("who answers for de-identification, review and take-downs")
    policies: _Text = _key("principles and procedures that the release follows")
    monitoring: _Text = _key("who watches for new attacks and other data that make people recognisable, and how often")
    incident_response: _Text = _key("what is done when somebody is recognised")
    take_down: _Text = _key("how somebody asks for removal, and how long it takes")
    maintenance: _Text = _key("who keeps, hosts and renews the dataset")
    errata: _Text = _key("where errors are told")
    older_versions: _Text = _key("what becomes of older versions")
    contributions: _Text = _key("whether and how others may add to it; 'none' if not")
    distribution: _Text = _key("how it is given out, and under which identifier such as a DOI")
    published: _Text = _key("since or from when")
    third_party_rights: _Text = _key("rights of others in the pictures; 'none' if none")
    export_controls: _Text = _key("rules of export and the like that apply; 'none' if none")
    used_already: _Text = _key("what it was used for so far, and where that is listed")
    uses: _Text = _key("what else it may be used for")
    unsuitable_uses: _Text = _key("what it should not be used for")

    def said(self) -> dict[str, str]:
        """The answers that were given, by key."""
        return self.model_dump(exclude_none=True)


def read_stated(path: Path | None) -> Stated:
    """The publisher's answers from a YAML file; none without one.

    Raises:
        SettingsError: It cannot be read, or has an unknown key or an answer that is no text.
    """
    if path is None:
        return Stated()
    content = read_yaml(path)
    if unknown := [str(key) for key in content if key not in Stated.model_fields]:
        near = difflib.get_close_matches(unknown[0], Stated.model_fields, 3)
        meant = f"Did you mean {' or '.join(near)}?" if near else f"Keys: {', '.join(Stated.model_fields)}."
        raise SettingsError(f"{path}: '{unknown[0]}' is no key of a release record. {meant}")
    try:
        return Stated(**content)
    except ValidationError as exc:
        raise SettingsError(f"{path}: {fault(exc)}. Correct it.") from exc
