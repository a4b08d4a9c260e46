#include "cli/args.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli/out.h"
#include "core/str.h"

#define COMMON (BH_OPT_BIT(HELP) | BH_OPT_BIT(OUTPUT) | BH_OPT_BIT(STATE))

int
bh_cli_usage(const struct bh_cli *cli, const char *fmt, ...)
{
    char text[512];
    va_list args;

    va_start(args, fmt);
    (void)vsnprintf(text, sizeof(text), fmt, args);
    va_end(args);
    bh_out_message(stderr, "bulkhead: %s", text);
    if (cli->command != NULL)
        bh_out_message(stderr, "  help: bulkhead help %s", cli->command->path);
    else
        bh_out_message(stderr, "  help: bulkhead help");
    return BH_EXIT_USAGE;
}

bool
bh_cli_json(const struct bh_cli *cli)
{
    const char *format = cli->options[BH_OPT_OUTPUT];

    return format != NULL && strcmp(format, "json") == 0;
}

/* Says what is wrong with a value, by where it came from. */
static int
refuse_value(const struct bh_cli *cli, enum bh_option option, bool flag, const char *must)
{
    const struct bh_option_row *row = &bh_option_rows[option];

    if (flag)
        return bh_cli_usage(cli, "--%s %s", row->word, must);
    bh_out_message(stderr, "bulkhead: the environment variable %s %s", row->variable, must);
    return BH_EXIT_CONFIG;
}

int
bh_cli_number(const struct bh_cli *cli, enum bh_option option, long min, long max, long fallback,
    long *ret_value)
{
    const struct bh_option_row *row = &bh_option_rows[option];
    const char *text = cli->options[option];
    bool flag = text != NULL;
    uint64_t number;
    char must[96];

    if (!flag && row->variable != NULL)
        text = getenv(row->variable);
    if (text == NULL || (!flag && *text == '\0')) {
        *ret_value = fallback;
        return 0;
    }
    if (!bh_str_uint(bh_str_of(text), (uint64_t)max, &number) || (long)number < min) {
        (void)snprintf(must, sizeof(must), "must be a whole number from %ld to %ld", min, max);
        return refuse_value(cli, option, flag, must);
    }
    *ret_value = (long)number;
    return 0;
}

/* The name nearest to ${word} among options (suggest_command does it for commands). */
static const char *
suggest_option(const char *word)
{
    const char *best = NULL;
    size_t least = 3;

    for (size_t i = 0; i < BH_OPT_COUNT; i++) {
        size_t distance = bh_distance(word, bh_option_rows[i].word);
        if (distance < least) {
            least = distance;
            best = bh_option_rows[i].word;
        }
    }
    return best;
}

static int
find_long(const char *word, size_t len)
{
    for (int i = 0; i < BH_OPT_COUNT; i++)
        if (strlen(bh_option_rows[i].word) == len &&
            strncmp(bh_option_rows[i].word, word, len) == 0)
            return i;
    return -1;
}

static int
find_short(char letter)
{
    for (int i = 0; i < BH_OPT_COUNT; i++)
        if (bh_option_rows[i].letter != '\0' && bh_option_rows[i].letter == letter)
            return i;
    return -1;
}

static int
store(struct bh_cli *cli, int option, const char *value)
{
    if (option == BH_OPT_FILE) {
        if (cli->file_count == BH_CLI_FILES_MAX)
            return bh_cli_usage(cli, "-f may be given %d times at most", BH_CLI_FILES_MAX);
        cli->files[cli->file_count++] = value;
    } else if (cli->options[option] != NULL && bh_option_rows[option].value != NULL) {
        return bh_cli_usage(cli, "--%s is given twice", bh_option_rows[option].word);
    }
    cli->options[option] = value;
    return -1;
}

static int
refuse_unknown(const struct bh_cli *cli, const char *arg, const char *word)
{
    const char *near = word == NULL ? NULL : suggest_option(word);

    if (near != NULL)
        return bh_cli_usage(cli, "unknown option \"%s\"; did you mean \"--%s\"?", arg, near);
    return bh_cli_usage(cli, "unknown option \"%s\"", arg);
}

/* Reads the option at argv[*i], and its value where it takes one. */
static int
read_option(struct bh_cli *cli, int argc, char **argv, int *i)
{
    const char *arg = argv[*i];
    bool is_long = arg[1] == '-';
    size_t len = is_long ? strcspn(arg + 2, "=") : 1;
    int option = is_long ? find_long(arg + 2, len) : find_short(arg[1]);
    const char *rest = is_long ? arg + 2 + len : arg + 2; /* "=value", "value" or "" */
    char word[64];

    if (option < 0) {
        (void)snprintf(word, sizeof(word), "%.*s", (int)(len < 63 ? len : 63), arg + 2);
        return refuse_unknown(cli, arg, is_long ? word : NULL);
    }
    if (bh_option_rows[option].value == NULL) {
        if (*rest != '\0')
            return bh_cli_usage(cli, "--%s takes no value", bh_option_rows[option].word);
        return store(cli, option, "");
    }
    if (*rest == '=')
        return store(cli, option, rest + 1);
    if (*rest != '\0')
        return store(cli, option, rest);
    if (*i + 1 >= argc)
        return bh_cli_usage(cli, "--%s needs a value (%s)", bh_option_rows[option].word,
            bh_option_rows[option].value);
    *i += 1;
    return store(cli, option, argv[*i]);
}

/* How many words of ${path} the arguments begin with; all of them: a match. */
static int
match_words(const char *path, char **args, int count, bool *ret_all)
{
    int matched = 0;

    *ret_all = true;
    while (*path != '\0') {
        size_t len = strcspn(path, " ");
        if (matched >= count || strlen(args[matched]) != len ||
            strncmp(args[matched], path, len) != 0) {
            *ret_all = false;
            return matched;
        }
        matched++;
        path += len + (path[len] == ' ');
    }
    return matched;
}

/* Is ${word} nearly the first word of ${path}? */
static bool
near_group(const char *word, const char *path)
{
    size_t len = strcspn(path, " ");
    char first[32] = "";

    if (len >= sizeof(first))
        return false;
    memcpy(first, path, len);
    return bh_distance(word, first) < 3;
}

/* Says which command ${args} may have meant. */
static int
refuse_command(const struct bh_cli *cli, char **args, int count, int matched)
{
    const char *best = NULL;
    size_t least = 4;
    char given[128];

    (void)snprintf(given, sizeof(given), "%s%s%s", args[0], matched > 0 && count > 1 ? " " : "",
        matched > 0 && count > 1 ? args[1] : "");
    for (size_t i = 0; i < bh_command_count; i++) {
        const char *path = bh_commands[i].path;
        size_t distance = bh_distance(given, path);
        if (distance < least) {
            least = distance;
            best = path;
        }
    }
    for (size_t i = 0; best == NULL && matched == 0 && i < bh_command_count; i++)
        if (near_group(args[0], bh_commands[i].path))
            best = bh_commands[i].path;
    if (best != NULL)
        return bh_cli_usage(
            cli, "unknown command \"%s\"; did you mean \"bulkhead %s\"?", given, best);
    return bh_cli_usage(cli, "unknown command \"%s\"", given);
}

static int
find_command(struct bh_cli *cli, char **args, int count, int *ret_words)
{
    int best = 0;

    for (size_t i = 0; i < bh_command_count; i++) {
        bool all;
        int matched = match_words(bh_commands[i].path, args, count, &all);
        if (all && (cli->command == NULL || matched > *ret_words)) {
            cli->command = &bh_commands[i];
            *ret_words = matched;
        }
        if (matched > best)
            best = matched;
    }
    if (cli->command != NULL)
        return -1;
    if (best == 1 && count == 1) { /* "tenant" alone */
        bool help = cli->options[BH_OPT_HELP] != NULL;
        bh_help_group(help ? stdout : stderr, args[0]);
        return help ? BH_EXIT_OK : BH_EXIT_USAGE;
    }
    return refuse_command(cli, args, count, best);
}

static int
check_format(const struct bh_cli *cli)
{
    const char *format = cli->options[BH_OPT_OUTPUT];
    const char *known = cli->command->formats;

    if (format == NULL)
        return -1;
    for (const char *at = known; *at != '\0';) {
        size_t len = strcspn(at, "|");
        if (strlen(format) == len && strncmp(at, format, len) == 0)
            return -1;
        at += len + (at[len] == '|');
    }
    return bh_cli_usage(cli, "-o %s: the formats of this command are %s", format, known);
}

static int
check(const struct bh_cli *cli)
{
    const struct bh_command *command = cli->command;

    for (int i = 0; i < BH_OPT_COUNT; i++)
        if (cli->options[i] != NULL && ((COMMON | command->options) & (UINT64_C(1) << i)) == 0)
            return bh_cli_usage(cli, "\"%s\" takes no --%s", command->path, bh_option_rows[i].word);
    if (cli->arg_count < command->args_min)
        return bh_cli_usage(cli, "\"%s\" needs %s", command->path, command->args);
    if (cli->arg_count > command->args_max)
        return bh_cli_usage(
            cli, "\"%s\" takes no \"%s\"", command->path, cli->args[command->args_max]);
    if ((command->options & BH_OPT_BIT(FILE)) != 0 && cli->file_count == 0)
        return bh_cli_usage(cli, "\"%s\" needs -f FILE", command->path);
    return check_format(cli);
}

int
bh_args_read(int argc, char **argv, struct bh_cli *cli)
{
    int count = 0; /* words that are no options, moved to the front */
    int words = 0;
    bool only_words = false;

    for (int i = 1; i < argc; i++) {
        int stop = -1;
        if (!only_words && strcmp(argv[i], "--") == 0)
            only_words = true;
        else if (only_words || argv[i][0] != '-' || argv[i][1] == '\0')
            argv[1 + count++] = argv[i];
        else
            stop = read_option(cli, argc, argv, &i);
        if (stop >= 0)
            return stop;
    }
    if (count == 0) {
        bool help = cli->options[BH_OPT_HELP] != NULL;
        bh_help_group(help ? stdout : stderr, NULL);
        return help ? BH_EXIT_OK : BH_EXIT_USAGE;
    }
    int stop = find_command(cli, argv + 1, count, &words);
    if (stop >= 0)
        return stop;
    cli->args = argv + 1 + words;
    cli->arg_count = count - words;
    if (cli->options[BH_OPT_HELP] != NULL) {
        bh_help_command(stdout, cli->command);
        return BH_EXIT_OK;
    }
    return check(cli);
}
