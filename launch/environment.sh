# Sourced by the other scripts: a virtual environment in .venv with the package and its requirements.
# Usage: . launch/environment.sh [further requirements file ...]
# Goes to the project's folder and sets PYTHON. Installs only what changed since the last call.

cd "$(dirname "${BASH_SOURCE[0]}")/.."

set_up_environment() {
    local python stamp wanted requirements=("-r" "requirements.txt") file
    for file in "$@"; do requirements+=("-r" "$file"); done
    for python in python3.13 python3.12 python3.11 python3; do
        if command -v "$python" >/dev/null && "$python" -c 'import ensurepip, sys, venv; sys.exit(not (3, 11) <= sys.version_info < (3, 14))' 2>/dev/null; then
            break
        fi
        python=""
    done
    if [ -z "$python" ]; then
        echo "No Python 3.11, 3.12 or 3.13 with the venv module was found. Install one (Debian: apt-get install python3-venv)." >&2
        return 2
    fi
    stamp=".venv/installed-$(printf '%s' "$*" | cksum | cut -d' ' -f1)"
    # The package is installed as the folder that it is in: of a copied or moved project that is another one.
    wanted=$({ printf '%s\n' "$PWD" && cat setup.py requirements.txt "$@" mnemonics_tf/__init__.py; } | cksum)
    PYTHON="$PWD/.venv/bin/python"
    if [ "$(cat "$stamp" 2>/dev/null)" = "$wanted" ] && "$PYTHON" -m pip --version >/dev/null 2>&1; then
        return 0
    fi
    echo "Installing TensorFlow and the rest into .venv (some 2 GB, a few minutes; only once) ..."
    if ! "$PYTHON" -m pip --version >/dev/null 2>&1; then
        rm -rf .venv
        "$python" -m venv .venv || return
    fi
    # Whoever sources this need not have `set -e`: what failed must not count as installed.
    "$PYTHON" -m pip install --quiet --disable-pip-version-check "${requirements[@]}" || return
    "$PYTHON" -m pip install --quiet --disable-pip-version-check --no-deps --editable . || return
    printf '%s' "$wanted" >"$stamp"
}

set_up_environment "$@"
