#include "cli/cli.h"

const struct bh_option_row bh_option_rows[BH_OPT_COUNT] = {
#define BH_OPTION(name, word, letter, value, variable, help) {word, letter, value, variable, help},
#include "cli/options.def"
#undef BH_OPTION
};

/* clang-format off */
#define PORTS (BH_OPT_BIT(EDGE_PORT) | BH_OPT_BIT(CONTROL_PORT) | BH_OPT_BIT(POSTGRES_PORT) | \
    BH_OPT_BIT(PGBOUNCER_PORT) | BH_OPT_BIT(APP_PORT) | BH_OPT_BIT(AGENT_PORT) | \
    BH_OPT_BIT(EDGE_TLS_PORT) | BH_OPT_BIT(REDIS_PORT))
#define TJ "table|json"

const struct bh_command bh_commands[] = {
    {"up", "", 0, 0, PORTS | BH_OPT_BIT(BASE_DOMAIN), TJ,
        "start everything on this machine, and the example tenants the first time",
        "Starts PostgreSQL, PgBouncer, nginx, the control plane and the example application on\n"
        "127.0.0.1 under the state directory.  Where they run already, only what changed is\n"
        "restarted.  The first time it applies the tenants acme, globex and umbrella.",
        bh_cmd_up, false},
    {"down", "", 0, 0, 0, TJ, "stop everything; the state stays", NULL, bh_cmd_down, false},
    {"status", "", 0, 0, 0, TJ "|env", "what runs, and how it is (exit 2: not all is up)",
        "-o env prints NAME=value lines for a shell: eval \"$(bulkhead status -o env)\"",
        bh_cmd_status, false},
    {"apply", "", 0, 0, BH_OPT_BIT(FILE) | BH_OPT_BIT(TIMEOUT), TJ,
        "make tenants and tiers as their files say",
        "All files are checked before anything is changed.  Prints what will happen, then follows\n"
        "each operation to its end.",
        bh_cmd_apply, false},
    {"diff", "", 0, 0, BH_OPT_BIT(FILE) | BH_OPT_BIT(EXIT_CODE), TJ,
        "what apply would change", NULL, bh_cmd_diff, false},
    {"get tenants", "[id]", 0, 1, BH_OPT_BIT(SEARCH), TJ, "list tenants, or show one", NULL,
        bh_cmd_get_tenants, false},
    {"get tenant", "[id]", 0, 1, BH_OPT_BIT(SEARCH), TJ, "list tenants, or show one", NULL,
        bh_cmd_get_tenants, true},
    {"get tiers", "[name]", 0, 1, 0, TJ, "list tiers, or show one", NULL, bh_cmd_get_tiers, false},
    {"get tier", "[name]", 0, 1, 0, TJ, "list tiers, or show one", NULL, bh_cmd_get_tiers, true},
    {"tenant list", "", 0, 0, BH_OPT_BIT(SEARCH), TJ, "list tenants", NULL,
        bh_cmd_tenant_list, false},
    {"tenant get", "<id>", 1, 1, 0, TJ, "show a tenant", NULL, bh_cmd_tenant_get, false},
    {"tenant delete", "<id>", 1, 1, BH_OPT_BIT(NOW) | BH_OPT_BIT(TIMEOUT), TJ,
        "remove a tenant and its data (needs --now)", NULL, bh_cmd_tenant_delete, false},
    {"certificate put", "<tenant> <domain>", 2, 2, BH_OPT_BIT(CHAIN) | BH_OPT_BIT(KEY), TJ,
        "give a custom domain its TLS certificate (needs --chain and --key)",
        "The domain is one of the tenant's, or *.NAME for those one label below NAME.  The chain is\n"
        "checked before anything is stored: order, dates, names, key.  Every edge shows it from the\n"
        "next handshake on.  The key is kept sealed; nothing ever shows it again.",
        bh_cmd_certificate_put, false},
    {"certificate list", "<tenant>", 1, 1, 0, TJ,
        "the certificates of a tenant, and when they expire",
        "Warns where fewer than 14 days are left.", bh_cmd_certificate_list, false},
    {"certificate get", "<tenant> <domain>", 2, 2, 0, TJ, "show a certificate", NULL,
        bh_cmd_certificate_get, false},
    {"certificate delete", "<tenant> <domain>", 2, 2, 0, TJ,
        "remove a certificate: the domain's handshakes are refused from then on", NULL,
        bh_cmd_certificate_delete, false},
    {"op list", "", 0, 0, BH_OPT_BIT(TENANT) | BH_OPT_BIT(LIMIT), TJ,
        "list operations, newest first", NULL, bh_cmd_op_list, false},
    {"op get", "<op>", 1, 1, 0, TJ, "show an operation and its steps", NULL,
        bh_cmd_op_get, false},
    {"op watch", "<op>", 1, 1, BH_OPT_BIT(TIMEOUT), TJ, "follow an operation to its end", NULL,
        bh_cmd_op_watch, false},
    {"op resume", "<op>", 1, 1, BH_OPT_BIT(TIMEOUT), TJ,
        "start a failed or undone operation again", NULL, bh_cmd_op_resume, false},
    {"token", "<tenant>", 1, 1, BH_OPT_BIT(USER) | BH_OPT_BIT(JOB) | BH_OPT_BIT(TTL), TJ,
        "print a token of a tenant (needs --user or --job)",
        "--user SUB gives a user token for the edge: curl -H \"Authorization: Bearer $(...)\".\n"
        "--job gives a tenant token for bulkhead.enter() in scripts and psql (at most 3600 s);\n"
        "the subject is then `operator` unless --user says otherwise.",
        bh_cmd_token, false},
    {"issuer list", "", 0, 0, 0, TJ, "the issuers whose tokens tenants may trust, and their keys",
        NULL, bh_cmd_issuer_list, false},
    {"issuer get", "<name>", 1, 1, 0, TJ, "show an issuer", NULL, bh_cmd_issuer_get, false},
    {"issuer put", "<name>", 1, 1, BH_OPT_BIT(FILE), TJ, "make or replace an issuer (needs -f)",
        "The file is JSON: {\"issuer\": \"https://id.example\", \"audiences\": [\"shop\"]}; its keys are\n"
        "then fetched and kept fresh.  A tenant trusts it once its edge settings name it.",
        bh_cmd_issuer_put, false},
    {"issuer delete", "<name>", 1, 1, 0, TJ, "remove an issuer that no tier or tenant names", NULL,
        bh_cmd_issuer_delete, false},
    {"issuer refresh", "<name>", 1, 1, 0, TJ, "fetch an issuer's keys now", NULL,
        bh_cmd_issuer_refresh, false},
    {"api-key create", "<tenant>", 1, 1,
        BH_OPT_BIT(NAME) | BH_OPT_BIT(USER) | BH_OPT_BIT(SCOPE) | BH_OPT_BIT(ROLES) | BH_OPT_BIT(TTL), TJ,
        "make an API key of a tenant and print it, this once (needs --name)",
        "Without --ttl it counts until it is deleted.  Show it to the edge as X-API-Key, or as\n"
        "Authorization: Bearer.",
        bh_cmd_api_key_create, false},
    {"api-key list", "<tenant>", 1, 1, 0, TJ, "the API keys of a tenant, without their secrets",
        NULL, bh_cmd_api_key_list, false},
    {"api-key delete", "<tenant> <key id>", 2, 2, 0, TJ, "revoke an API key, now", NULL,
        bh_cmd_api_key_delete, false},
    {"usage", "", 0, 0,
        BH_OPT_BIT(TENANT) | BH_OPT_BIT(METER) | BH_OPT_BIT(FROM) | BH_OPT_BIT(TO), TJ,
        "what tenants used in the last 24 hours, or from --from to --to",
        "The table has the sum of the hours, -o json each hour by itself.", bh_cmd_usage, false},
    {"audit list", "", 0, 0,
        BH_OPT_BIT(TENANT) | BH_OPT_BIT(CODE) | BH_OPT_BIT(FROM) | BH_OPT_BIT(TO) |
            BH_OPT_BIT(LIMIT), TJ,
        "what the databases refused, newest first", NULL, bh_cmd_audit_list, false},
    {"server list", "", 0, 0, 0, TJ, "the database servers, and how they are", NULL,
        bh_cmd_server_list, false},
    {"selfcheck", "", 0, 0, BH_OPT_BIT(NOW) | BH_OPT_BIT(TIMEOUT), TJ,
        "what is not as it should be in the databases (exit 2: something)",
        "Each database with tenants is looked at when the control plane starts, and daily.\n"
        "--now has all of them looked at again and waits for that.",
        bh_cmd_selfcheck, false},
    {"doctor", "", 0, 0, BH_OPT_BIT(NGINX_CONF), TJ,
        "is the edge of this machine set up so that it keeps its promises (exit 2: not)",
        "Looks at what runs, the snapshot's readers, the counters, the module, and nginx's\n"
        "configuration; changes nothing.  For an nginx of your own:\n"
        "nginx -T 2>/dev/null | bulkhead doctor --nginx-conf -",
        bh_cmd_doctor, false},
    {"adopt", "", 0, 0, BH_OPT_BIT(DATABASE) | BH_OPT_BIT(TENANT_COLUMN) | BH_OPT_BIT(OUT), TJ,
        "look at an existing database, and write the SQL that brings it under Bulkhead",
        "Reads the catalogue of the database in a read-only transaction and prints its tables, whose\n"
        "their rows are, which mode of isolation fits, and what a person has to decide first (exit 2).\n"
        "--out writes a script for psql, to be read and tried on a copy before it is run.",
        bh_cmd_adopt, false},
    {"lint", "", 0, 0, BH_OPT_BIT(DATABASE), TJ,
        "the holes of a database through which tenants reach one another (exit 2: errors)",
        "By the rules of bulkhead.lint(), in any PostgreSQL database; without --database in the first\n"
        "shared one of the local set-up.  A fix that begins with an upper-case word is SQL.",
        bh_cmd_lint, false},
    {"explain policy", "<tenant>", 1, 1, 0, TJ,
        "what the edges do for a tenant, and whether tenant, tier or default says so", NULL,
        bh_cmd_explain_policy, false},
    {"explain route", "<tenant> <method> <path>", 3, 3, 0, TJ,
        "which route of a tenant counts for a request, and what it needs (exit 2: refused)",
        "By the policy that the edges have: the route that matches, why those before it do not, which\n"
        "credentials, scopes and roles it needs, and the limits that count.  Nothing is requested.",
        bh_cmd_explain_route, false},
    {"explain limit", "<tenant> [method path]", 1, 3, 0, TJ,
        "the limits of a tenant, or of one request of it, with what is used",
        "USED and LEASED are of quotas, in the window of now, as the edges told it some seconds ago.",
        bh_cmd_explain_limit, false},
    {"explain access", "<sql>", 1, 1, BH_OPT_BIT(TENANT) | BH_OPT_BIT(DATABASE), TJ,
        "which guard, right or policy decides on a statement of a tenant (exit 2: refused)",
        "Runs the statement as the tenant, in a read-only transaction that is rolled back, and shows\n"
        "for each table what the tenant may do, which policy holds, and how many of its rows it sees.\n"
        "The tenant token (use job) is BULKHEAD_TENANT_TOKEN, else it is asked of the control plane.",
        bh_cmd_explain_access, false},
    {"version", "", 0, 0, 0, TJ, "print the version", NULL, bh_cmd_version, false},
    {"help", "[command]", 0, 3, 0, TJ, "print this, or what a command takes", NULL,
        bh_cmd_help, false},
};
/* clang-format on */

const size_t bh_command_count = sizeof(bh_commands) / sizeof(bh_commands[0]);
