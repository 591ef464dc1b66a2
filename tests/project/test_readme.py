import ast
import re
from fnmatch import fnmatch
from pathlib import Path

ROOT = Path(__file__).parents[2]
READERS = {
    "env",
    "env_bool",
    "env_url",
    "env.list",
    "env.int",
    "env.bool",
    "env.float",
    "env.str",
    "env.json",
}


def variables_read_by(source: str) -> set[str]:
    """First arguments of the calls in READERS and keys of os.environ: the settings' environment variables."""
    nodes = list(ast.walk(ast.parse(source)))
    calls = [node.args[0] for node in nodes if isinstance(node, ast.Call) and is_reader(node)]
    keys = [
        node.slice
        for node in nodes
        if isinstance(node, ast.Subscript) and ast.unparse(node.value) == "os.environ"
    ]
    return {node.value for node in calls + keys if isinstance(node, ast.Constant)}


def is_reader(call: ast.Call) -> bool:
    return bool(call.args) and ast.unparse(call.func) in READERS


def test_the_readme_lists_every_setting_and_no_other():
    section = (ROOT / "README.md").read_text().split("\n## Configuration\n")[1].split("\n## ")[0]
    listed = re.findall(r"^\| `([A-Z_]+)` \|", section, flags=re.MULTILINE)

    settings = (ROOT / "marketplace/config/settings.py").read_text()
    assert sorted(listed) == sorted(variables_read_by(settings))


def test_the_documents_name_only_make_targets_that_exist():
    text = (ROOT / "README.md").read_text() + (ROOT / "CONTRIBUTING.md").read_text()
    named = set(re.findall(r"(?:^    |`)make ([a-z0-9-]+)\b", text, flags=re.MULTILINE))
    rules = re.findall(r"^([a-z0-9-]+%?):", (ROOT / "Makefile").read_text(), flags=re.MULTILINE)
    patterns = [rule.replace("%", "*") for rule in rules]
    assert {name for name in named if not any(fnmatch(name, pattern) for pattern in patterns)} == set()
