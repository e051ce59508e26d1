"""python -m tests.support.with_providers FOLDER MODULE ARGUMENT…: `python -m MODULE ARGUMENT…` with more providers.

The providers in the folder are found as if they lay in shared/providers.
"""

import sys
from importlib import import_module

from shared import providers

if __name__ == "__main__":
    folder, module, *arguments = sys.argv[1:]
    providers.__path__.append(folder)
    sys.exit(import_module(f"{module}.__main__").main(arguments))
