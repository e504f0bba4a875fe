#!/usr/bin/env bash
# Builds the documentation as a site, build/docs/index.html, and serves it on this machine until Ctrl-C.
# Usage: bash launch/docs.sh [build | serve]     (from any folder; serve, the default, follows every edit)
set -euo pipefail
what="${1:-serve}"
if [ "$#" -gt 1 ] || { [ "$what" != build ] && [ "$what" != serve ]; }; then
    echo "docs.sh takes 'build' or 'serve'. Received: $*" >&2
    exit 2
fi
. "$(dirname "${BASH_SOURCE[0]}")/environment.sh" requirements-dev.txt
export NO_MKDOCS_2_WARNING=1  # the theme's word on MkDocs 2, which we do not use

"$PYTHON" -m mkdocs build --strict --config-file launch/mkdocs.yml
echo "The site: $PWD/build/docs/index.html"
if [ "$what" = serve ]; then
    exec "$PYTHON" -m mkdocs serve --strict --config-file launch/mkdocs.yml --watch mnemonics_tf
fi
