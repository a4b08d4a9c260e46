"""Gets each language's packages from its registry by the locked list beside the programs, and builds them in build/drivers/."""
import hashlib
import os
import pathlib
import re
import shutil
import subprocess
import urllib.error
import urllib.request

HERE = pathlib.Path(__file__).resolve().parent
BUILD = HERE.parents[1] / "build/drivers"

# program that must be there; registry; lock; how to fetch (network) and build (without)
TOOLS = {
    "c": ("cc", None, [], [], [
        "cc -std=gnu17 -O1 -Wall -Wextra -Werror $(pkg-config --cflags libpq) -o libpq libpq.c $(pkg-config --libs libpq)"]),
    "python": ("/usr/bin/python3", "https://pypi.org/simple/psycopg/", ["requirements.txt"], [
        "/usr/bin/python3 -m venv --clear venv",
        "venv/bin/pip install --quiet --disable-pip-version-check --require-hashes --only-binary :all: -r requirements.txt"], []),
    "node": ("npm", "https://registry.npmjs.org/pg", ["package-lock.json"], ["npm ci --ignore-scripts --no-audit --no-fund"], []),
    "go": ("go", "https://proxy.golang.org/github.com/lib/pq/@v/list", ["go.mod", "go.sum"], ["go mod download"],
           ["mkdir -p bin && GOFLAGS=-mod=readonly go build -o bin/ ./..."]),
    "java": ("mvn", "https://repo.maven.apache.org/maven2/org/postgresql/postgresql/maven-metadata.xml", ["pom.xml"],
             ["rm -rf target && mvn -B -q dependency:copy-dependencies"],
             ["javac -Xlint:all,-processing -Werror -proc:none -cp 'target/dependency/*' -d classes src/main/java/*.java"]),
    "rust": ("cargo", "https://index.crates.io/config.json", ["Cargo.lock"], ["cargo fetch --locked --quiet"],
             ["cargo build --locked --offline --quiet --bins"]),
}


WITHOUT = "-without"


class Failed(Exception):
    """A build that should have worked."""


# What a copy of a language's programs shares with the first.
SHARED = {"python": "venv", "node": "node_modules", "java": "target"}


def folder(language, variant=""):
    return BUILD / (language + variant)


def reachable(url):
    """Does the registry answer at all? Any HTTP answer is one."""
    try:
        urllib.request.urlopen(urllib.request.Request(url, method="HEAD"), timeout=15).close()
    except urllib.error.HTTPError:
        return True
    except OSError:
        return False
    return True


def shell(command, where):
    done = subprocess.run(["/bin/bash", "-c", command], cwd=where, capture_output=True, text=True, stdin=subprocess.DEVNULL, timeout=900)
    if done.returncode != 0:
        raise Failed(f"`{command}` in {where}:\n" + (done.stdout + done.stderr)[-3000:])


def copy_sources(language, variant="", changes=()):
    """Only what changed, as cargo and go decide by file times; with the ${changes} (file, pattern, replacement)."""
    for source in sorted(p for p in (HERE / language).rglob("*") if p.is_file()):
        name = source.relative_to(HERE / language)
        copy, text = folder(language, variant) / name, source.read_text()
        for _, pattern, replacement in (c for c in changes if c[0] == str(name)):
            text, count = re.subn(pattern, replacement, text)
            if count == 0:
                raise Failed(f"{name} has nothing like {pattern}")
        copy.parent.mkdir(parents=True, exist_ok=True)
        if not copy.exists() or copy.read_text() != text:
            copy.write_text(text)


def fetch(language, registry, locks, commands):
    """None, or why it cannot be had here. The stamp says which lock is already installed."""
    stamp, text = folder(language) / ".fetched", hashlib.sha256()
    for lock in locks:
        text.update((folder(language) / lock).read_bytes())
    if stamp.exists() and stamp.read_text() == text.hexdigest():
        return None
    for command in commands:
        try:
            shell(command, folder(language))
        except Failed:
            if reachable(registry):
                raise
            return f"its packages are not installed and the registry {registry.split('/')[2]} cannot be reached"
    stamp.write_text(text.hexdigest())
    return None


def prepare(language):
    """Fetch and build; None, or the reason to skip this language."""
    program, registry, locks, fetches, builds = TOOLS[language]
    if shutil.which(program) is None:
        return f"{os.path.basename(program)} is not installed"
    copy_sources(language)
    reason = fetch(language, registry, locks, fetches)
    if reason is None:
        for command in builds:
            shell(command, folder(language))
    return reason


def prepare_without(language, changes):
    """After prepare(): the same programs in a second folder, with their drivers' own settings."""
    first, second = folder(language), folder(language, WITHOUT)
    copy_sources(language, WITHOUT, changes)
    if language in SHARED and not (second / SHARED[language]).exists():
        (second / SHARED[language]).symlink_to(first / SHARED[language])
    if language == "rust" and not (second / "target").exists():
        shell(f"cp -al '{first}/target' '{second}/target'", second)  # what the packages compiled to
    for command in TOOLS[language][4]:
        shell(command, second)
