"""Gets what the issuers are made of into build/oidc/: npm's packages by the lock file, Debian's unpacked and not installed."""
import hashlib
import os
import pathlib
import shutil
import subprocess
import sys

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "drivers"))

from toolchain import reachable  # noqa: E402

BUILD = HERE.parents[1] / "build/oidc"


class Missing(Exception):
    """Why an issuer cannot be had here."""


def run(command, where):
    done = subprocess.run(command, cwd=where, capture_output=True, text=True, stdin=subprocess.DEVNULL, timeout=600)
    assert done.returncode == 0, f"{command}: {done.stdout}{done.stderr}"
    return done.stdout


def node():
    """The folder with node_modules; Missing where node or the registry is."""
    if not shutil.which("node") or not shutil.which("npm"):
        raise Missing("node and npm are not installed")
    folder, lock = BUILD / "node", (HERE / "package-lock.json").read_bytes()
    mark = folder / "locked"
    if mark.exists() and mark.read_text() == hashlib.sha256(lock).hexdigest():
        return folder
    if not reachable("https://registry.npmjs.org/oidc-provider"):
        raise Missing("registry.npmjs.org cannot be reached")
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    for name in ("package.json", "package-lock.json"):
        shutil.copy(HERE / name, folder)
    run(["npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund"], folder)
    mark.write_text(hashlib.sha256(lock).hexdigest())
    return folder


UNNEEDED = ("mysql-client", "mariadb-client", "mariadb-client-core", "dbconfig-", "fonts-", "libjs-", "default-mysql", "libconfig-inifiles")


def debian(package):
    """The folder that ${package} and what of its needs is not installed were unpacked into; Missing where they cannot be had."""
    folder = BUILD / package
    mark = folder / "unpacked"
    if mark.exists():
        return folder
    done = subprocess.run(["apt-get", "install", "--print-uris", "-y", "--no-install-recommends", package], capture_output=True,
                          text=True, env={**os.environ, "LC_ALL": "C"})
    files = [line.split()[1].split("_")[0] for line in done.stdout.splitlines() if line.startswith("'")]
    if package not in files:
        raise Missing(f"apt-get knows no package {package}: apt-get update")
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    wanted = [name for name in files if not name.startswith(UNNEEDED)]
    done = subprocess.run(["apt-get", "download", "-o", "APT::Sandbox::User=root", *wanted], cwd=folder, capture_output=True, text=True)
    if done.returncode != 0:
        raise Missing("apt-get cannot download " + ", ".join(wanted))
    for file in sorted(folder.glob("*.deb")):
        run(["dpkg", "-x", str(file), str(folder / "root")], folder)
        file.unlink()
    mark.write_text("\n".join(wanted))
    return folder
