"""The command line's options, one definition each; None means 'not given': environment, file and default speak."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from p3mdata.config import Area, Boundary, Execution, Executor, Format, JpegMode, Method, Names, Preset, Settings


def _about(name: str) -> str:
    field = (Settings.model_fields | Execution.model_fields)[name]
    default = getattr(field.default, "value", field.default)
    if default is None or default is False:
        return f"{field.description}"
    shown = name.replace("_", "-") if default is True else default
    return f"{field.description} [default: {shown}]"


def _option(name: str, *flags: str, **kwargs: Any) -> Any:
    return typer.Option(*(flags or (f"--{name.replace('_', '-')}",)), help=_about(name), **kwargs)


MethodOption = Annotated[Method | None, _option("method")]
PresetOption = Annotated[Preset | None, _option("preset")]
StrengthOption = Annotated[float | None, _option("strength")]
EpsilonOption = Annotated[float | None, _option("epsilon")]
DpPixelsOption = Annotated[int | None, _option("dp_pixels", metavar="M")]
AreaOption = Annotated[Area | None, _option("area")]
BoundaryOption = Annotated[Boundary | None, _option("boundary")]
ToleranceOption = Annotated[int | None, _option("alpha_tolerance", metavar="LEVELS")]
WidthOption = Annotated[float | None, _option("transition_width")]
FormatOption = Annotated[Format | None, _option("format")]
QualityOption = Annotated[str | None, typer.Option("--quality", help="keep (as the source) or 1-100: re-encoded JPEG")]
JpegOption = Annotated[JpegMode | None, _option("jpeg")]
MinSideOption = Annotated[int | None, _option("min_side")]
MaxPixelsOption = Annotated[int | None, _option("max_pixels")]
TrustOption = Annotated[bool | None, _option("trust_no_face", "--trust-no-face/--no-trust-no-face")]
RecursiveOption = Annotated[bool | None, _option("recursive", "--recursive/--no-recursive")]
NamesOption = Annotated[Names | None, _option("names")]
SeedOption = Annotated[int | None, _option("seed")]
WorkersOption = Annotated[int | None, _option("workers", min=0)]
LimitOption = Annotated[int | None, _option("limit")]
SecretOption = Annotated[Path | None, _option("secret_file", metavar="FILE")]
FilesOption = Annotated[Path | None, _option("files")]
TaskOption = Annotated[str | None, _option("task", metavar="K/N")]
# Its name until 0.3.
OldTaskOption = Annotated[str | None, typer.Option("--shard", hidden=True)]
ExecutorOption = Annotated[Executor | None, _option("executor")]
AddressOption = Annotated[str | None, _option("address", metavar="HOST:PORT")]
OverwriteOption = Annotated[bool | None, typer.Option("--overwrite", help=_about("overwrite"))]
AlphasOption = Annotated[Path | None, typer.Option("--alphas", help="folder with alpha mattes of equal names")]
AlphasOrPredict = Annotated[
    Path | None, typer.Option("--alphas", help="folder with alpha mattes of equal names, or: predict")
]
TrimapsOption = Annotated[
    Path | None, typer.Option("--trimaps", help="folder with trimaps; their unknown band is kept")
]
MasksOption = Annotated[Path | None, typer.Option("--masks", help="folder with hand-drawn masks (white = obfuscate)")]
ConfigOption = Annotated[Path | None, typer.Option("--config", help="YAML file with settings")]
JsonOption = Annotated[bool, typer.Option("--json", help="print the result as JSON on stdout")]
AllOption = Annotated[bool, typer.Option("--all", help="list everything, not the first ten of a kind")]
QuietOption = Annotated[bool, typer.Option("--quiet", "-q", help="print nothing but errors and JSON")]
ProgressOption = Annotated[
    bool,
    typer.Option(
        "--progress/--no-progress", help="a bar; plain lines where there is no terminal, or with --no-progress"
    ),
]
