"""What the package never does, read from its source: run what a file holds, or let a file choose its reader."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

import changen_cli

ROOT = Path(changen_cli.__file__).parent
MODULES = {path.relative_to(ROOT).as_posix(): path for path in sorted(ROOT.rglob("*.py"))}
FORBIDDEN = {
    "eval", "exec", "compile", "__import__", "pickle.load", "pickle.loads", "pickle.Unpickler", "marshal.load",
    "marshal.loads", "shelve.open", "dill.load", "joblib.load", "cloudpickle.load", "cloudpickle.loads", "pandas.read_pickle",
    "os.system", "os.popen", "subprocess.run", "subprocess.Popen", "subprocess.call", "subprocess.check_output",
    "subprocess.check_call", "yaml.unsafe_load", "yaml.full_load", "yaml.load_all", "tempfile.mktemp",
    "shutil.unpack_archive", "torch.jit.load", "torch.hub.load",
}  # fmt: skip
ALLOWED = {"workflows/published_metrics.py": "torch.jit.load"}
"""Networks the user names for --fid-weights and the like are programs, as the help says."""
METHODS = {"extractall": "archives are unpacked entry by entry, in sources/archives.py", "extract": "likewise"}
NEEDED = {
    "torch.load": ("weights_only", lambda value: isinstance(value, ast.Constant) and value.value is True),
    "yaml.load": ("Loader", lambda value: ast.unparse(value) == "PlainLoader"),
    "Image.open": ("formats", lambda value: True),
    "rasterio.open": ("driver", lambda value: True),
}
"""Call → keyword it must have, and what that must be."""
NEVER = {"allow_pickle": True, "trust_remote_code": True, "shell": True}


def unsafe(source: str, allowed: str = "") -> list[str]:
    """What a module does that it must not, one line each."""
    found = []
    for node in ast.walk(ast.parse(source)):
        if not isinstance(node, ast.Call):
            continue
        name = ast.unparse(node.func)
        given = {keyword.arg: keyword.value for keyword in node.keywords}
        if name in FORBIDDEN and name != allowed:
            found.append(f"line {node.lineno}: {name}")
        if isinstance(node.func, ast.Attribute) and node.func.attr in METHODS:
            found.append(f"line {node.lineno}: {name}: {METHODS[node.func.attr]}")
        if name in NEEDED:
            keyword, fits = NEEDED[name]
            if keyword not in given or not fits(given[keyword]):
                found.append(f"line {node.lineno}: {name} without {keyword}")
        for keyword, value in NEVER.items():
            if keyword in given and not (
                isinstance(given[keyword], ast.Constant) and given[keyword].value is not value
            ):
                found.append(f"line {node.lineno}: {keyword}={value}")
    return found


@pytest.mark.parametrize("name", MODULES)
def test_a_module_runs_nothing_that_a_file_holds(name: str) -> None:
    assert unsafe(MODULES[name].read_text(encoding="utf-8"), ALLOWED.get(name, "")) == []


def test_imports_hide_none_of_these_calls() -> None:
    """The names above are looked for as written, so nothing may be imported under another one."""
    roots = {name.rpartition(".")[0] for name in (*FORBIDDEN, *NEEDED) if "." in name} - {"Image", "rasterio", "torch"}
    harmless = {"UnpicklingError", "YAMLError"}
    for name, path in MODULES.items():
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ImportFrom) and node.module in roots:
                assert {alias.name for alias in node.names} <= harmless, f"{name}, line {node.lineno}"
            if isinstance(node, ast.Import):
                hidden = [
                    alias.name for alias in node.names if alias.asname and alias.name in {*roots, "rasterio", "torch"}
                ]
                assert not hidden, f"{name}, line {node.lineno}"


@pytest.mark.parametrize(
    "line",
    [
        "eval(text)", "pickle.loads(data)", "torch.load(path)", "torch.load(path, weights_only=False)",
        "torch.load(path, weights_only=safe)", "yaml.load(text)", "yaml.load(text, Loader=yaml.Loader)",
        "Image.open(path)", "rasterio.open(path)", "np.load(path, allow_pickle=True)", "subprocess.run(line, shell=True)",
        "tar.extractall(folder)", "AutoModel.from_pretrained(name, trust_remote_code=flag)",
    ],
)  # fmt: skip
def test_the_reader_of_sources_finds_each(line: str) -> None:
    assert unsafe(f"def f():\n    {line}\n")
    assert not unsafe("torch.load(path, weights_only=True)\nmodel.eval()\nnp.load(path, allow_pickle=False)")
