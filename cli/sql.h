/* The queries of adopt, lint and explain, embedded by tools/embed-text (cli/meson.build). */
#ifndef BH_CLI_SQL_H
#define BH_CLI_SQL_H

/* data/lint/: (severity, object, problem, fix), in a database with the extension and without. */
extern const char bh_sql_lint_extension[];
extern const char bh_sql_lint_plain[];

/* cli/sql/: $1 is the tenant column or NULL.  One JSON object; the lines of adopt.sql. */
extern const char bh_sql_adopt_report[];
extern const char bh_sql_adopt_row[];
extern const char bh_sql_adopt_schema[];

/* cli/sql/: $1 tenant id.  One JSON object or no row. */
extern const char bh_sql_access_tenant[];
/* $1 process id, $2 tenant's role, $3 its schema: a JSON array of what that process has locked. */
extern const char bh_sql_access_tables[];

#endif
