"""Help and version answer at once: nothing but Typer is imported for them."""

import resource
import subprocess
import sys

import pytest

from tests.serving.conftest import Loa


@pytest.mark.parametrize(
    "arguments",
    [
        ["--help"],
        ["generate", "--help"],
        ["edit", "--help"],
        ["chat", "--help"],
        ["models", "list", "--help"],
        ["study", "run", "--help"],
    ],
)
def test_help_imports_nothing_but_typer(loa: Loa, arguments):
    ran = loa(*arguments)
    assert ran.code == 0
    assert "Usage: loa" in ran.stdout
    assert ran.heavy == set()
    # 0.3 s, and as much more as a busy machine slows Python with Typer alone (0.09 s on a quiet one), measured in turns.
    rounds = [(seconds_of(loa, "-m", "serving.cli", *arguments), seconds_of(loa, "-c", "import pydantic, typer")) for _ in range(3)]
    assert min(ours for ours, _ in rounds) < 0.3 * max(1.0, min(bare for _, bare in rounds) / 0.09)


def seconds_of(loa: Loa, *arguments: str) -> float:
    """Processor time of a plain run of Python; ``loa()`` has it write down every import, which takes half as long again."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run([sys.executable, *arguments], check=True, stdout=subprocess.DEVNULL, env=loa.env, cwd=loa.folder)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def test_importing_the_command_line_needs_no_library_of_ours():
    code = (
        "import sys, serving.cli; "
        "print([m for m in ('numpy', 'pydantic', 'rich', 'yaml', 'torch', 'media', 'configs') if m in sys.modules])"
    )
    assert subprocess.check_output([sys.executable, "-c", code], text=True).strip() == "[]"


def test_importing_loa_is_free_of_heavy_libraries():
    code = "import sys, loa; print(sorted({'torch', 'numpy', 'pydantic'} & set(sys.modules)), hasattr(loa, 'nonsense'))"
    assert subprocess.check_output([sys.executable, "-c", code], text=True).strip() == "[] False"


def test_every_public_name_arrives():
    import loa as public

    assert {name: getattr(public, name).__name__ for name in public.__all__} == {name: name for name in public.__all__}


def test_version_is_the_distributions(loa: Loa):
    assert loa("--version").stdout.split()[0] == "loa"


def test_every_command_of_the_contract_that_this_version_brings_is_listed(loa: Loa):
    out = loa("--help").stdout
    for command in ("chat", "generate", "edit", "replay", "models", "study", "doctor", "bench"):
        assert f"\n  {command}" in out


def test_no_arguments_show_help(loa: Loa):
    ran = loa()
    assert (ran.code, ran.stderr) == (0, "")
    assert "Usage: loa" in ran.stdout
