/* What `bulkhead doctor` looks at: tables of checks, each of which says what it found. */
#ifndef BH_CLI_DOCTOR_H
#define BH_CLI_DOCTOR_H

#include <jansson.h>

#include "cli/cli.h"
#include "cli/nginxconf.h"

enum bh_finding { BH_FINDING_OK, BH_FINDING_SKIPPED, BH_FINDING_WARNING, BH_FINDING_ERROR };

struct bh_doctor {
    struct bh_cli *cli;
    json_t *items;
    const char *check; /* that runs now */
    unsigned said;     /* by it */
    unsigned errors;
};

/**
 * bh_doctor_say(doctor, finding, where, next, fmt, ...):
 * The running check found something: at ${where} (NULL: no place in a file), to
 * be mended by ${next} (a command, or what to write; NULL: nothing to do).
 */
void bh_doctor_say(struct bh_doctor *doctor, enum bh_finding finding, const struct bh_conf *where,
    const char *next, const char *fmt, ...) BH_PRINTF(5, 6);

/**
 * bh_doctor_begin(doctor, check) / bh_doctor_end(doctor, fine):
 * Around a check; where it said nothing, ${fine} is what was found.
 */
void bh_doctor_begin(struct bh_doctor *doctor, const char *check);
void bh_doctor_end(struct bh_doctor *doctor, const char *fine);

/** bh_doctor_edge(doctor, conf): all checks of an nginx configuration. */
void bh_doctor_edge(struct bh_doctor *doctor, const struct bh_conf *conf);

#endif
