#include <jansson.h>
#include <string.h>

#include "cli/cli.h"
#include "cli/out.h"

static void
print_options(FILE *out, uint64_t options)
{
    for (int i = 0; i < BH_OPT_COUNT; i++) {
        const struct bh_option_row *row = &bh_option_rows[i];
        char left[64];
        if ((options & (UINT64_C(1) << i)) == 0)
            continue;
        (void)snprintf(left, sizeof(left), "%c%c%s--%s%s%s", row->letter ? '-' : ' ',
            row->letter ? row->letter : ' ', row->letter ? ", " : "  ", row->word,
            row->value ? " " : "", row->value ? row->value : "");
        (void)fprintf(out, "  %-26s %s%s%s%s\n", left, row->help, row->variable ? " [" : "",
            row->variable ? row->variable : "", row->variable ? "]" : "");
    }
}

void
bh_help_command(FILE *out, const struct bh_command *command)
{
    (void)fprintf(out, "bulkhead %s%s%s%s\n\n  %s\n", command->path, *command->args ? " " : "",
        command->args, command->options ? " [options]" : "", command->summary);
    if (command->details != NULL) {
        (void)fputs("\n  ", out);
        for (const char *at = command->details; *at != '\0'; at++) {
            (void)fputc(*at, out);
            if (*at == '\n')
                (void)fputs("  ", out);
        }
        (void)fputc('\n', out);
    }
    (void)fputs("\noptions:\n", out);
    print_options(out, command->options);
    print_options(out, BH_OPT_BIT(OUTPUT) | BH_OPT_BIT(STATE) | BH_OPT_BIT(HELP));
    (void)fprintf(out, "\nformats (-o): %s\n", command->formats);
}

/* Does ${path} begin with the word ${word}?  Every path does where it is NULL. */
static bool
in_group(const char *path, const char *word)
{
    size_t len = word == NULL ? 0 : strlen(word);

    return word == NULL || (strncmp(path, word, len) == 0 && path[len] == ' ');
}

/* Where summaries begin: behind the longest of these commands. */
static int
left_width(const char *word)
{
    size_t width = 0;

    for (size_t i = 0; i < bh_command_count; i++) {
        const struct bh_command *command = &bh_commands[i];
        size_t len = strlen(command->path) + strlen(command->args) + 1;
        if (!command->hidden && in_group(command->path, word) && len > width)
            width = len;
    }
    return (int)width;
}

void
bh_help_group(FILE *out, const char *word)
{
    int width = left_width(word);

    (void)fprintf(out, "usage: bulkhead %s [options]\n\n", word == NULL ? "<command>" : word);
    for (size_t i = 0; i < bh_command_count; i++) {
        const struct bh_command *command = &bh_commands[i];
        if (!command->hidden && in_group(command->path, word))
            (void)fprintf(out, "  %s %-*s %s\n", command->path,
                width - (int)strlen(command->path) - 1, command->args, command->summary);
    }
    (void)fputs("\nbulkhead help <command> shows its options.\n", out);
    if (word == NULL)
        (void)fputs("Results go to stdout, messages to stderr.  Exit codes: 0 ok, 1 failed or "
                    "conflict,\n2 check negative, 64 usage, 65 bad input file, 66 not found, 69 "
                    "server unreachable,\n75 timed out (the operation goes on), 77 not permitted, "
                    "78 bad configuration.\n",
            out);
}

static int
print_json(void)
{
    json_t *rows = json_array();

    for (size_t i = 0; i < bh_command_count; i++)
        if (!bh_commands[i].hidden)
            (void)json_array_append_new(
                rows, json_pack("{s:s, s:s, s:s, s:s}", "command", bh_commands[i].path, "args",
                          bh_commands[i].args, "formats", bh_commands[i].formats, "summary",
                          bh_commands[i].summary));
    return bh_out_json(json_pack("{s:o}", "commands", rows));
}

static int
help_words(struct bh_cli *cli, const char *words)
{
    bool group = false;

    for (size_t i = 0; i < bh_command_count; i++) {
        if (strcmp(bh_commands[i].path, words) == 0) {
            bh_help_command(stdout, &bh_commands[i]);
            return BH_EXIT_OK;
        }
        group = group || in_group(bh_commands[i].path, words);
    }
    if (!group)
        return bh_cli_usage(cli, "there is no command \"%s\"", words);
    bh_help_group(stdout, words);
    return BH_EXIT_OK;
}

int
bh_cmd_help(struct bh_cli *cli)
{
    char words[128];

    if (cli->arg_count > 0) {
        (void)snprintf(words, sizeof(words), "%s%s%s", cli->args[0], cli->arg_count > 1 ? " " : "",
            cli->arg_count > 1 ? cli->args[1] : "");
        return help_words(cli, words);
    }
    if (bh_cli_json(cli))
        return print_json();
    bh_help_group(stdout, NULL);
    return BH_EXIT_OK;
}
