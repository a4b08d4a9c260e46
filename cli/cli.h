/*
 * The command line as tables: commands, options, and what one invocation asked for.
 *
 * main.c reads argv into a struct bh_cli by these tables and calls the
 * handler; help.c prints them.  A handler returns the exit code; it has said
 * what there is to say by then: results on stdout, messages on stderr.
 */
#ifndef BH_CLI_CLI_H
#define BH_CLI_CLI_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include "core/arena.h"
#include "core/error.h"

/* Exit codes that belong to no error (the others: bh_code_exit). */
#define BH_EXIT_OK 0
#define BH_EXIT_FAILED 1
#define BH_EXIT_NEGATIVE 2
#define BH_EXIT_USAGE 64
#define BH_EXIT_INPUT 65
#define BH_EXIT_NOT_FOUND 66
#define BH_EXIT_TIMEOUT 75
#define BH_EXIT_CONFIG 78

/* BH_OPTION(name, long, short, value, environment, help): one row per option. */
enum bh_option {
#define BH_OPTION(name, word, letter, value, variable, help) BH_OPT_##name,
#include "cli/options.def"
#undef BH_OPTION
    BH_OPT_COUNT
};

#define BH_OPT_BIT(name) (UINT64_C(1) << BH_OPT_##name)

struct bh_option_row {
    const char *word;     /* without the dashes */
    char letter;          /* 0: none */
    const char *value;    /* what it takes ("FILE"), or NULL for a flag */
    const char *variable; /* environment variable that stands in, or NULL */
    const char *help;
};
extern const struct bh_option_row bh_option_rows[BH_OPT_COUNT];

struct bh_cli;

struct bh_command {
    const char *path; /* "tenant delete" */
    const char *args; /* "<id>", as help prints it */
    int args_min;
    int args_max;
    uint64_t options;    /* BH_OPT_BIT()s beside the common ones */
    const char *formats; /* what -o takes, the first is the default: "table|json" */
    const char *summary; /* one line */
    const char *details; /* more lines for `help <command>`, or NULL */
    int (*run)(struct bh_cli *cli);
    bool hidden; /* another name of a row that is listed */
};
extern const struct bh_command bh_commands[];
extern const size_t bh_command_count;

#define BH_CLI_FILES_MAX 1024

/* One invocation. */
struct bh_cli {
    const char *program; /* argv[0], to name in a command to type next */
    const struct bh_command *command;
    const char *options[BH_OPT_COUNT];   /* the value, "" for a flag that is set, NULL */
    const char *files[BH_CLI_FILES_MAX]; /* of -f, in order */
    size_t file_count;
    char **args; /* after the command's own words */
    int arg_count;
    struct bh_arena *arena; /* until the program ends */
};

/** bh_cli_json(cli): was -o json asked for? */
bool bh_cli_json(const struct bh_cli *cli);

/**
 * bh_cli_number(cli, option, min, max, fallback, ret_value):
 * The whole number that ${option} (or its environment variable) holds, or
 * ${fallback}.  Returns 0, or the exit code after saying what is wrong with it.
 */
int bh_cli_number(const struct bh_cli *cli, enum bh_option option, long min, long max,
    long fallback, long *ret_value);

/**
 * bh_cli_usage(cli, fmt, ...):
 * Say how the command was used wrongly and where its help is; returns 64.
 */
int bh_cli_usage(const struct bh_cli *cli, const char *fmt, ...) BH_PRINTF(2, 3);

/** bh_cli_report(err): say what failed and the hint, on stderr; returns the exit code of ${err}. */
int bh_cli_report(const struct bh_error *err);

/** bh_cli_no_memory(): say so; returns 1. */
int bh_cli_no_memory(void);

/* The handlers. */
int bh_cmd_up(struct bh_cli *cli);
int bh_cmd_down(struct bh_cli *cli);
int bh_cmd_status(struct bh_cli *cli);
int bh_cmd_apply(struct bh_cli *cli);
int bh_cmd_diff(struct bh_cli *cli);
int bh_cmd_get_tenants(struct bh_cli *cli);
int bh_cmd_get_tiers(struct bh_cli *cli);
int bh_cmd_tenant_list(struct bh_cli *cli);
int bh_cmd_tenant_get(struct bh_cli *cli);
int bh_cmd_certificate_put(struct bh_cli *cli);
int bh_cmd_certificate_list(struct bh_cli *cli);
int bh_cmd_certificate_get(struct bh_cli *cli);
int bh_cmd_certificate_delete(struct bh_cli *cli);
int bh_cmd_tenant_delete(struct bh_cli *cli);
int bh_cmd_op_list(struct bh_cli *cli);
int bh_cmd_op_get(struct bh_cli *cli);
int bh_cmd_op_watch(struct bh_cli *cli);
int bh_cmd_op_resume(struct bh_cli *cli);
int bh_cmd_token(struct bh_cli *cli);
int bh_cmd_issuer_list(struct bh_cli *cli);
int bh_cmd_issuer_get(struct bh_cli *cli);
int bh_cmd_issuer_put(struct bh_cli *cli);
int bh_cmd_issuer_delete(struct bh_cli *cli);
int bh_cmd_issuer_refresh(struct bh_cli *cli);
int bh_cmd_api_key_create(struct bh_cli *cli);
int bh_cmd_api_key_list(struct bh_cli *cli);
int bh_cmd_api_key_delete(struct bh_cli *cli);
int bh_cmd_usage(struct bh_cli *cli);
int bh_cmd_audit_list(struct bh_cli *cli);
int bh_cmd_server_list(struct bh_cli *cli);
int bh_cmd_selfcheck(struct bh_cli *cli);
int bh_cmd_doctor(struct bh_cli *cli);
int bh_cmd_adopt(struct bh_cli *cli);
int bh_cmd_lint(struct bh_cli *cli);
int bh_cmd_explain_policy(struct bh_cli *cli);
int bh_cmd_explain_route(struct bh_cli *cli);
int bh_cmd_explain_limit(struct bh_cli *cli);
int bh_cmd_explain_access(struct bh_cli *cli);
int bh_cmd_version(struct bh_cli *cli);
int bh_cmd_help(struct bh_cli *cli);

/** bh_help_command(out, command) / bh_help_group(out, word): what `help` prints of one command, of
 * all that begin with ${word}. */
void bh_help_command(FILE *out, const struct bh_command *command);
void bh_help_group(FILE *out, const char *word);

#endif
