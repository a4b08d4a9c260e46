"""Where each attack of the research is run: ids of reliability.md 2.2 → cases (by their ids in attacks.py, attacks_more.py and poisons.py), tests
(file::function), or lint, where what falls is an operator's or a schema's mistake that bulkhead.lint() or a revoke names."""


def bound(kind, *names):
    return [f"bound/{kind}/{name}" for name in names]


def after(*names):
    return [f"after/role/{name}" for name in names]


MODES = "test_attacks_modes.py::test_in_mode_row"
MAP = {
    "A01": bound("rows", "context-set"), "A02": bound("rows", "context-set-local"), "A03": bound("rows", "context-config"), "A04": bound("rows", "context-one-statement"),
    "A05": bound("rows", "context-reset-all") + bound("role", "reset-all"), "A07": after("context-commit-discard-set"), "A08": after("commit"), "A09": after("rollback"), "A10": after("commit-chain"),
    "A11": bound("rows", "context-savepoint"), "A12": bound("rows", "context-function-set"), "A13": bound("rows", "context-pg-settings"), "A14": bound("rows", "context-do"), "A15": bound("rows", "context-alter-role"),
    "A16": bound("rows", "context-prepare"), "A17": bound("rows", "context-procedure"), "A18": after("context-rollback-to"), "A19": bound("rows", "context-caught"),
    "B01": bound("role", "set-role"), "B02": bound("role", "set-local-role"), "B03": bound("role", "reset-then-set"), "B04": bound("role", "none-then-set"), "B05": bound("role", "set-session"),
    "B06": bound("role", "local-session"), "B07": bound("role", "reset-session-then-set"), "B08": bound("role", "session-default-then-set"), "B09": bound("role", "config-role"), "B10": bound("role", "config-role-local"),
    "B11": bound("role", "config-role-none"), "B12": bound("role", "config-session"), "B13": bound("role", "do-set-role"), "B14": bound("role", "update-pg-settings"), "B15": bound("role", "reset-all"),
    "B16": after("commit-set-role"), "B17": after("rollback-set-role"), "B18": after("commit-discard"), "B19": after("commit-reset-role"), "B20": bound("role", "function-set-role-reads"), "B21": bound("role", "definer-execute"),
    "B22": bound("role", "internal-alias"), "B23": bound("role", "procedure-set"), "B24": bound("role", "execute-set-role"), "B25": bound("role", "grant-then-set"), "B26": bound("role", "alter-self"), "B27": bound("role", "bypassrls"),
    "B28": bound("role", "create-role"), "B29": bound("role", "alter-set"), "B30": bound("role", "database-role"), "B31": bound("role", "cursor-then-set"), "B32": bound("role", "set-user"), "B33": bound("role", "set-user"),
    "B34": bound("role", "set-user"), "B35": bound("role", "set-user"), "B36": bound("role", "set-user"), "B37": bound("role", "reset-all"),
    "T01": ["test_database_tokens.py"], "T02": ["test_database_tokens.py"], "T03": ["test_database_tokens.py"], "T04": ["test_attacks_protocol.py::test_odd_bindings_of_enter"], "T05": ["test_database_tokens.py"],
    "T06": ["test_attacks_protocol.py::test_odd_bindings_of_enter"], "T07": ["test_database_tokens.py"], "T08": ["test_database.py"], "T09": ["test_attacks_protocol.py::test_a_backend_does_not_grow"],
    "T10": bound("text", "pg-stat-activity") + after("commit-activity") + ["test_attacks_protocol.py::test_a_token_never_reaches_the_log"], "T11": bound("role", "nested-enter"), "T12": bound("role", "definer-enter"),
    "T13": bound("rows", "context-our-key"), "T14": bound("rows", "context-our-token", "context-our-pooler"),
    "C01": bound("rows", "row-security-off", "shared-off"), "C02": bound("rows", "explain-analyze") + ["test_attacks_modes.py::test_what_row_security_does_not_hold"], "C03": bound("rows", "shared-leaky"), "C04": bound("rows", "shared-leaky-operator"),
    "C05": bound("rows", "shared-cast-error"), "C06": bound("rows", "shared-side-channel"), "C07": bound("rows", "shared-copy"), "C08": bound("rows", "shared-copy-query"), "C09": bound("rows", "shared-update"), "C10": bound("rows", "shared-delete"),
    "C11": bound("rows", "shared-insert-for"), "C12": bound("rows", "shared-give-away"), "C13": bound("rows", "shared-conflict"), "C14": "lint", "C15": "lint", "C16": bound("rows", "shared-merge", "shared-merge-delete"),
    "C17": bound("rows", "shared-truncate"), "C19": bound("rows", "shared-references"), "C20": bound("rows", "shared-view"), "C21": bound("rows", "shared-matview"), "C22": bound("rows", "shared-rule"), "C23": bound("rows", "shared-trigger"),
    "C24": bound("rows", "shared-disable"), "C25": bound("rows", "shared-policy"), "C26": bound("rows", "shared-drop-policy"), "C27": bound("rows", "shared-owner"), "C28": bound("rows", "shared-index"), "C29": bound("rows", "pg-stats", "pg-statistic"),
    "C30": bound("rows", "pg-stats-ext"), "C31": bound("rows", "shared-tablesample"), "C32": bound("rows", "shared-inherits"), "C33": bound("rows", "shared-table-to-xml", "query-to-xml"), "C34": bound("rows", "shared-ts-stat"),
    "C35": bound("rows", "shared-row-json"), "C36": bound("rows", "shared-parallel") + ["test_attacks_modes.py::test_workers_do_run_them"], "C37": bound("rows", "sequence"), "C38": bound("write", "nextval"), "C39": "hygiene", "C40": "hygiene",
    "C42": ["test_attacks_modes.py::test_what_row_security_does_not_hold"], "C43": ["test_attacks_modes.py::test_what_row_security_does_not_hold"],
    "D01": bound("rows", "select"), "D02": bound("rows", "search-path"), "D03": bound("write", "take-schema"), "D04": bound("write", "rename-schema"), "D05": bound("rows", "inherits"), "D06": bound("write", "grant"),
    "D07": bound("write", "default-privileges"), "D08": bound("write", "reassign-owned"), "D09": bound("write", "drop-owned-pool"), "D10": bound("write", "drop-schema"), "D11": bound("text", "function-body"), "D12": bound("text", "function-source"),
    "D13": bound("text", "view-body"), "D14": "seen", "D15": "seen", "D16": "seen", "D17": "seen", "D18": bound("text", "db-role-setting-secret"), "D19": "seen", "D20": "hygiene", "D21": "hygiene", "D22": "seen", "D23": bound("text", "pg-stat-activity"),
    "D24": bound("text", "locks"), "D25": bound("text", "authid"), "D26": "hygiene", "D27": bound("text", "key-file-pg-settings"), "D28": bound("text", "key-file-setting"),
    "E01": bound("stays", "large-object"), "E02": bound("rows", "pg-largeobject"), "E03": bound("stays", "lo-create"), "E04": bound("stays", "listen"), "E05": bound("stays", "notify", "notify-function"), "E06": bound("stays", "try-advisory"),
    "E07": bound("write", "terminate"), "E08": bound("write", "cancel"), "E09": bound("text", "copy-to-program"), "E10": bound("text", "copy-file"), "E11": bound("text", "read-file"), "E12": bound("text", "lo-import"), "E13": bound("text", "dblink"),
    "E14": bound("role", "c-function"), "E15": bound("stays", "load"), "E16": bound("write", "alter-system"), "E17": bound("write", "event-trigger"), "E18": bound("text", "publication", "subscription-create"), "E19": bound("text", "server", "logical-slot"),
    "E20": bound("write", "replica-role", "switch-wal"), "E21": bound("stays", "timeout"), "E22": bound("stays", "limits-up", "timeouts-off"), "E23": bound("write", "snapshot-import"), "E24": bound("write", "comment-on-role"),
    "E25": bound("write", "database", "tablespace"), "E26": bound("write", "cast", "language"), "E27": bound("write", "vacuum-others"), "E28": bound("write", "cluster-others"), "E29": bound("write", "lock"), "E30": bound("rows", "shared-lock"),
    "F01": bound("rows", "shared-definer-helper"), "F02": bound("rows", "shared-helper-path"), "F03": "lint", "F04": bound("rows", "index-expression"), "F05": "lint", "F06": "lint", "F07": bound("rows", "create-matview"), "F08": "lint",
    "G01": after("commit-activity"), "G02": after("commit-activity"), "G03": after("commit-terminate"), "G04": after("commit-alter-pool"), "G05": after("commit-alter-pool"), "G06": bound("rows", "context-alter-role"),
    "G07": bound("stays", "temp-table"), "G08": bound("stays", "path"), "G09": bound("stays", "large-object"), "G10": bound("stays", "prepare"), "G11": bound("stays", "hold"), "G12": bound("stays", "advisory"), "G13": bound("stays", "do-set"),
    "G14": bound("stays", "lastval"), "G15": bound("role", "deferred-set-role"), "G16": bound("role", "commit-in-procedure"), "G17": after("prepare-transaction"),
    "P1": ["test_attacks_modes.py::test_plans_kept_for_one_tenant_serve_the_next"], "P2": ["test_attacks_modes.py::test_plans_kept_for_one_tenant_serve_the_next"], "P3": ["test_attacks_modes.py::test_plans_kept_for_one_tenant_serve_the_next"],
    "O1": ["test_attacks_protocol.py::test_startup_of_the_pool_role"], "O2": ["test_poisons.py::test_no_setting_comes_in_by_the_startup_packet"], "O3": ["test_attacks_protocol.py::test_startup_of_the_pool_role"],
    "O4": ["test_attacks_protocol.py::test_startup_of_the_pool_role"], "O5": ["test_attacks_modes.py::test_startup_of_a_login"], "O6": ["test_attacks_protocol.py::test_startup_of_the_pool_role"],
}
# "lint": a mistake of schema or operator that lint() names; "hygiene": rights that PUBLIC loses (test_database_selfcheck.py); "seen": names and texts
# of the catalogue that stay visible, which doc/contract/database.md says.
ELSEWHERE = {"lint", "hygiene", "seen"}
LISTED = {"A": set(range(1, 20)) - {6}, "B": set(range(1, 38)), "T": set(range(1, 15)), "C": set(range(1, 44)) - {18, 41}, "D": set(range(1, 29)), "E": set(range(1, 31)), "F": set(range(1, 9)),
          "G": set(range(1, 18)), "P": {1, 2, 3}, "O": set(range(1, 7))}
