"""What PyInstaller cannot see: extension modules are imported by names made at run time."""

from pathlib import Path

_NAMES = {path.name.partition(".")[0] for path in Path(__file__).parent.glob("*.*")}
hiddenimports = [f"dlcore._native.{name}" for name in sorted(_NAMES) if name.isidentifier()]
