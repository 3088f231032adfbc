# SPDX-License-Identifier: Apache-2.0
"""`python -m prism.cli`."""

from prism.cli.app import main

if __name__ == "__main__":
    main()
