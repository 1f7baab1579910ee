"""What people are asked about a release, by whom, and what answers it: the publisher's keys and what the run knows.

Clauses of ISO/IEC 27559:2022 are those of its table of contents (identically adopted as AS/NZS ISO/IEC 27559:2024);
items of Art. 30(1) GDPR are those of Regulation (EU) 2016/679; questions are numbered as they come in 'Datasheets for
Datasets' (Gebru et al., arXiv 1803.09010, version 8), where 'any other comments' are counted and left out here. All are
in our words.
"""

from __future__ import annotations

from dataclasses import dataclass

ISO, GDPR, DATASHEET = "iso_27559", "gdpr_30", "datasheet"
FRAMEWORKS = {
    ISO: (
        "ISO/IEC 27559:2022, de-identification framework",
        "https://standards.iteh.ai/catalog/standards/iso/af037672-7282-4feb-ac2c-93415309c109/iso-iec-27559-2022",
    ),
    GDPR: ("Record of processing activities, Art. 30(1) GDPR", "https://eur-lex.europa.eu/eli/reg/2016/679/oj"),
    DATASHEET: ("Datasheet for the dataset", "https://arxiv.org/abs/1803.09010"),
}


@dataclass(frozen=True)
class Question:
    """One thing that is asked.

    Attributes:
        framework, part: Who asks it, and under which heading.
        ref: Clause, item or number.
        asks: In our words.
        keys: The publisher's keys that answer it, of `stated.Stated`.
        run: What the run says to it, by names of `record.SAID`.
    """

    framework: str
    part: str
    ref: str
    asks: str
    keys: tuple[str, ...]
    run: tuple[str, ...]


def _of(framework: str, part: str, *rows: tuple[str, str, str, str]) -> tuple[Question, ...]:
    return tuple(Question(framework, part, ref, asks, tuple(k.split()), tuple(r.split())) for ref, asks, k, r in rows)


QUESTIONS = (
    *_of(
        ISO, "6 Context assessment",
        ("6.2.2", "Security and privacy practices of those who get the data", "access recipient_controls terms", ""),
        ("6.2.3", "Motives and capacity to re-identify", "motives", "attackers"),
        ("6.3.2", "Transparency of actions and engagement of stakeholders", "notice engagement", ""),
        ("6.3.3", "Privacy-related harms", "harms impact_assessment", "impact"),
    ),
    *_of(
        ISO, "7 Data assessment",
        ("7.2.2", "Data principals: whom the data are about", "people children", "counts"),
        ("7.2.3", "Data type", "", "composition"),
        ("7.2.4", "Attribute types: what identifies directly, indirectly, or is sensitive",
         "personal_data special_categories", "personal"),
        ("7.2.5", "Properties of the dataset", "", "counts spread held_back"),
        ("7.3.2", "Maximum or average risk", "", "audit attackers"),
        ("7.3.3", "Attack on the population or on a sample", "sampling", "audit"),
        ("7.3.4", "Data privacy models", "", "privacy_model method"),
    ),
    *_of(
        ISO, "8 Identifiability assessment and mitigation",
        ("8.2.2", "Quantifying identifiability", "", "audit recall second_look"),
        ("8.2.3", "Adversarial testing", "", "attackers"),
        ("8.3.2", "Reconfiguring the environment", "access terms", ""),
        ("8.3.3", "Transforming the data", "", "method proofs"),
        ("8.3.4", "Re-evaluation after mitigation", "", "proofs recall decisions limits"),
    ),
    *_of(
        ISO, "9 De-identification governance",
        ("9.2.2", "Roles and responsibilities", "roles controller contact", ""),
        ("9.2.3", "Principles, policies and procedures", "policies retention", "decisions"),
        ("9.2.4", "Identifying and managing a disclosure of data", "recipients distribution", "licence"),
        ("9.2.5", "Communicating with stakeholders", "contact take_down", "versions"),
        ("9.3.2", "Monitoring the environment of the data", "monitoring", ""),
        ("9.4", "Mitigation in case of an incident", "incident_response", "versions"),
    ),
    *_of(
        GDPR, "Art. 30(1)",
        ("(a)", "Controller, joint controllers, representative, data protection officer",
         "controller contact joint_controllers representative data_protection_officer", ""),
        ("(b)", "Purposes of the processing", "purpose", ""),
        ("(c)", "Categories of data subjects and of personal data", "people children personal_data special_categories",
         "personal"),
        ("(d)", "Categories of recipients", "recipients", ""),
        ("(e)", "Transfers to third countries and international organisations, and their safeguards",
         "transfers transfer_safeguards", ""),
        ("(f)", "Time limits for erasure", "retention", "versions"),
        ("(g)", "Technical and organisational security measures", "security", "measures method proofs"),
    ),
    *_of(
        GDPR, "Asked for beside it",
        ("Art. 6", "Lawfulness: the ground of the processing", "legal_basis consent", "shown"),
        ("Art. 13, 14", "How the people were informed", "notice", ""),
        ("Art. 17, 21", "How erasure is asked for and done", "take_down withdrawal", "versions"),
        ("Art. 35", "Data protection impact assessment", "impact_assessment", ""),
    ),
    *_of(
        DATASHEET, "Motivation",
        ("1", "Why was it made?", "purpose", ""),
        ("2", "Who made it, and for whom?", "creators controller", ""),
        ("3", "Who paid for it?", "funding", ""),
    ),
    *_of(
        DATASHEET, "Composition",
        ("5", "What is one instance?", "", "composition"),
        ("6", "How many are there?", "", "counts splits"),
        ("7", "Is it all there is, or a sample?", "sampling", "held_back"),
        ("8", "What does an instance consist of?", "", "composition raw_data"),
        ("9", "Is there a label or target?", "", "composition"),
        ("10", "Is anything missing from instances?", "", "held_back composition"),
        ("11", "Are relations between instances told?", "", "relations"),
        ("12", "Are there splits to use?", "", "splits"),
        ("13", "Errors, noise, redundancy?", "errata", "recall second_look limits"),
        ("14", "Does it need anything from outside?", "external_resources", ""),
        ("15", "Is anything confidential?", "confidential", ""),
        ("16", "May anything offend or frighten?", "offensive", ""),
        ("17", "Does it tell subpopulations apart?", "subpopulations", "biases spread"),
        ("18", "Can individuals be identified, directly or indirectly?", "", "personal audit attackers"),
        ("19", "Is anything sensitive?", "special_categories", "personal"),
    ),
    *_of(
        DATASHEET, "Collection process",
        ("21", "How was each instance acquired?", "collection", ""),
        ("22", "By which devices or procedures?", "collection", ""),
        ("23", "How was a sample drawn?", "sampling", ""),
        ("24", "Who collected it, and for which pay?", "collected_by", ""),
        ("25", "When?", "collection_period", ""),
        ("26", "Which ethical review was there?", "ethics_review", ""),
        ("27", "From the people themselves or through others?", "collection", ""),
        ("28", "Were they told?", "notice", ""),
        ("29", "Did they consent?", "consent", "shown"),
        ("30", "Can they take it back?", "withdrawal take_down", "versions"),
        ("31", "Was the impact on them analysed?", "impact_assessment", "impact"),
    ),
    *_of(
        DATASHEET, "Preprocessing, cleaning, labelling",
        ("33", "What was done to the data?", "", "method proofs decisions"),
        ("34", "Are the raw data kept?", "raw_data_kept", "raw_data"),
        ("35", "Is the software available?", "", "tool models"),
    ),
    *_of(
        DATASHEET, "Uses",
        ("37", "What was it used for already?", "used_already", ""),
        ("38", "Where are such uses listed?", "used_already", ""),
        ("39", "What else may it be used for?", "uses", "intended_uses"),
        ("40", "What in it may affect later uses?", "", "limits biases"),
        ("41", "What should it not be used for?", "unsuitable_uses", "intended_uses"),
    ),
    *_of(
        DATASHEET, "Distribution",
        ("43", "Who outside gets it?", "recipients access", ""),
        ("44", "How?", "distribution", ""),
        ("45", "When?", "published", ""),
        ("46", "Under which licence and terms?", "terms", "licence"),
        ("47", "Which rights do others have in it?", "third_party_rights", ""),
        ("48", "Which export controls or rules apply?", "export_controls", ""),
    ),
    *_of(
        DATASHEET, "Maintenance",
        ("50", "Who keeps it?", "maintenance", ""),
        ("51", "How are they reached?", "contact", ""),
        ("52", "Where are errors told?", "errata", ""),
        ("53", "Will it be renewed?", "maintenance", "versions"),
        ("54", "How long are data about people kept?", "retention", ""),
        ("55", "Are older versions kept?", "older_versions", "versions"),
        ("56", "Can others add to it?", "contributions", ""),
    ),
)  # fmt: skip
