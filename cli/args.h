/* argv into a struct bh_cli, by the tables of cli/cli.h. */
#ifndef BH_CLI_ARGS_H
#define BH_CLI_ARGS_H

#include "cli/cli.h"

/**
 * bh_args_read(argc, argv, cli):
 * Fill ${cli} (zeroed by the caller but for its arena) from ${argv}, which is
 * permuted.  Options may stand anywhere before `--`.  Returns -1 where the
 * command is to be run, else the exit code: help was printed, or what is wrong
 * was said.
 */
int bh_args_read(int argc, char **argv, struct bh_cli *cli);

#endif
