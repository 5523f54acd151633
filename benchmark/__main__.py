"""``python -m benchmark``, and the script ``unlearnable-bench``."""

import sys
from importlib.util import find_spec
from pathlib import Path

_ROOT = Path(__file__).resolve().parents[1]


def main() -> int:
    """Run the command line, unless other packages take the place of the suite's own.

    Returns:
        The exit code; 2 if they do, and on Windows, which lacks the locks that runs share folders by.
    """
    if sys.platform == "win32":
        sys.stderr.write("error: Unlearnable Bench runs on Linux; on Windows, use it in WSL\n")
        return 2
    # Before anything of the suite is imported: `python -m` looks into the current folder first.
    for name in ("attacks", "defenses", "victims"):
        spec = find_spec(name)
        if spec is not None and spec.origin and Path(spec.origin).resolve() != _ROOT / name / "__init__.py":
            is_script = Path(sys.argv[0]).name != "__main__.py"
            way_out = (
                "take its folder out of PYTHONPATH"
                if is_script
                else "run the script 'unlearnable-bench' instead, which does not look into the current folder"
            )
            from benchmark.core.printing import printable

            line = f"error: {spec.origin} hides the package '{name}' of this suite; {way_out}"
            sys.stderr.write(f"{printable(line)}\n")
            return 2
    from benchmark.cli.main import main as run_command

    return run_command()


if __name__ == "__main__":
    sys.exit(main())
