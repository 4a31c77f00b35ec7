"""The same page as `fovea serve`; also works from a checkout that is not installed."""

import sys
from pathlib import Path

sys.path[:0] = [str(Path(__file__).parent / root) for root in ("assistant", "plugins", "knowledge")]
if __name__ == "__main__":
    try:
        from fovea.cli import main
    except ModuleNotFoundError as error:
        sys.exit(f"The package `{error.name}` is missing. In this folder, run: pip install .")
    sys.argv.insert(1, "serve")
    main()
