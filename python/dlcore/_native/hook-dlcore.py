"""What PyInstaller cannot see: extension modules are imported by names made at run time."""

from PyInstaller.utils.hooks import collect_submodules

hiddenimports = collect_submodules(
    "dlcore._native", filter=lambda name: name.rpartition(".")[2] != "hook-dlcore"
)
