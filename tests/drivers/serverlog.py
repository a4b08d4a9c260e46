"""Reads what the server logged (log_statement = all, as JSON) and tells a driver's own statements from the program's."""
import json
import re
import time

# What every program sends on purpose; the rest is the driver's or the pool's.
PROGRAM = re.compile(r"\bitems\b|\bas one\b|bulkhead\.enter|nonsense|pg_backend_pid", re.I)
TRANSACTION = re.compile(r"^\s*(begin|start transaction|commit|rollback|end|savepoint|release|set transaction)\b[^;]*;?\s*$", re.I)
ENTER = re.compile(r"bulkhead\.enter", re.I)
PLANNED = re.compile(r"^(?:statement|execute ([^:]+)): (.*)$", re.S)
# PgBouncer's, when it gives a server connection to a client with other settings.
POOLER = re.compile(r"^(SET (client_encoding|DateStyle|TimeZone|standard_conforming_strings|application_name)=('[^']*')+;?)+$", re.I)
# SQLSTATEs that the steps provoke: unbound, refused, moved, error, serial, killed, and what follows an error.
PROVOKED = {"42P01", "TN001", "TN002", "TN004", "23505", "40001", "57P01", "25P02"}


class Log:
    def __init__(self, path):
        self.path = path

    def end(self):
        time.sleep(0.2)  # the collector writes what the backends have sent it
        return self.path.stat().st_size

    def since(self, offset):
        end = self.end()
        with open(self.path, "rb") as file:
            file.seek(offset)
            return [json.loads(line) for line in file.read(end - offset).splitlines()]


def statements(lines):
    """(pid, transaction, statement name, text) of each statement of the pool role."""
    for line in lines:
        found = PLANNED.match(line["message"])
        if line.get("user") == "bulkhead_pool" and line["error_severity"] == "LOG" and found:
            yield line, found.group(1) or "", found.group(2).strip()


def shown(text):
    text = re.sub(r"\s+", " ", text).strip().rstrip(";")
    return text if len(text) <= 100 else text[:90] + " …"


def judge(lines, tenants, named):
    """(statements of its own outside a tenant's transaction, those inside, problems)."""
    alone, bound, wrong = set(), set(), []
    entered, served = set(), {}
    for line, name, text in statements(lines):
        transaction = (line["pid"], line.get("vxid"))
        if not named and name not in ("", "<unnamed>"):
            wrong.append(f"a statement with the name {name.split('/')[0]}, which PgBouncer 1.18 mixes up: {shown(text)}")
        if ENTER.search(text):
            entered.add(transaction)
        elif transaction in entered:
            served.setdefault(line["pid"], set()).add(line.get("application_name"))
        if not PROGRAM.search(text) and not TRANSACTION.match(text) and not POOLER.match(text):
            (bound if transaction in entered else alone).add(shown(text))
    wrong += errors(lines)
    if not any(tenants <= names for names in served.values()):
        wrong.append("no server connection served all tenants in turn: nothing was shown")
    return sorted(alone), sorted(bound), list(dict.fromkeys(wrong))


def errors(lines):
    """Errors that no step provokes, and refusals of what the driver sent by itself."""
    for line in lines:
        if line.get("user") != "bulkhead_pool" or line["error_severity"] not in ("ERROR", "FATAL", "PANIC"):
            continue
        code, text = line.get("state_code"), line.get("statement") or ""
        own = code == "TN001" and text and not PROGRAM.search(text)
        if code not in PROVOKED or own:
            yield f"{line['error_severity']} {code} {line['message']}: {shown(text)}"
