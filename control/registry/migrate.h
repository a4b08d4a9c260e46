/* The registry's numbered SQL files, compiled in by tools/embed-sql. */
#ifndef BH_CONTROL_REGISTRY_MIGRATE_H
#define BH_CONTROL_REGISTRY_MIGRATE_H

#include <stddef.h>

struct bh_sql_file {
    int version;
    const char *name; /* NULL: the end of the list */
    const char *text;
};

extern const struct bh_sql_file bh_registry_sql[]; /* rising versions */

#endif
