#include <errno.h>
#include <locale.h>
#include <stdio.h>
#include <string.h>

#include "cli/args.h"
#include "cli/out.h"

/* A result that could not be written is a failure; a reader that left is none of our business. */
static int
finish(int code)
{
    if (fflush(stdout) == 0 && !ferror(stdout))
        return code;
    if (errno != EPIPE)
        bh_out_message(stderr, "bulkhead: cannot write the result: %s", strerror(errno));
    return code == BH_EXIT_OK ? BH_EXIT_FAILED : code;
}

int
main(int argc, char **argv)
{
    struct bh_chunks chunks;
    struct bh_cli cli = {.program = argc > 0 ? argv[0] : "bulkhead"};
    int code;

    (void)setlocale(LC_CTYPE, "");
    bh_chunks_init(&chunks);
    cli.arena = &chunks.arena;
    code = bh_args_read(argc, argv, &cli);
    if (code < 0)
        code = cli.command->run(&cli);
    code = finish(code);
    bh_chunks_fini(&chunks);
    return code;
}
