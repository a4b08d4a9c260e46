/* /v1/audit: what database servers refused, newest first. */
#include <string.h>

#include "control/api/api.h"
#include "control/api/page.h"
#include "control/api/write.h"
#include "control/registry/audit.h"

/* A heading for people; the message says the rest. */
static const char *
title_of(const struct bh_audit_row *row)
{
    static const struct {
        const char *kind;
        const char *title;
    } notes[] = {
        {"suppressed", "More refusals that were not recorded one by one"},
        {"dropped", "Entries were lost before they were read"},
        {"restart", "The server was started anew"},
    };

    for (size_t i = 0; i < sizeof(notes) / sizeof(notes[0]); i++)
        if (strcmp(row->kind, notes[i].kind) == 0)
            return notes[i].title;
    for (int code = 1; code < BH_CODE_COUNT && row->sqlstate != NULL; code++)
        if (strcmp(bh_code_sqlstate((enum bh_code)code), row->sqlstate) == 0 &&
            strcmp(row->sqlstate, "XX000") != 0)
            return bh_code_title((enum bh_code)code);
    return "PostgreSQL refused a statement";
}

static void
write_row(struct bh_writer *w, const struct bh_audit_row *row)
{
    bh_write_open(w, NULL, '{');
    bh_write_text(w, "id", row->id);
    bh_write_text(w, "kind", row->kind);
    bh_write_time(w, "at", row->at_us);
    bh_write_text(w, "tenant", row->tenant);
    if (row->no > 0)
        bh_write_int(w, "no", row->no);
    else
        bh_write_text(w, "no", NULL);
    bh_write_text(w, "subject", row->subject);
    bh_write_text(w, "server", row->server);
    bh_write_text(w, "database", row->database);
    bh_write_text(w, "object", row->object);
    bh_write_text(w, "code", row->sqlstate);
    bh_write_text(w, "title", title_of(row));
    bh_write_text(w, "message", row->message);
    bh_write_text(w, "fingerprint", row->fingerprint);
    bh_write_int(w, "count", row->count);
    bh_write_close(w, '}');
}

/* "aud_" and a ULID. */
static bool
is_id(const char *text)
{
    return strlen(text) == 4 + BH_ULID_TEXT - 1 && memcmp(text, "aud_", 4) == 0 &&
           strspn(text + 4, "0123456789ABCDEFGHJKMNPQRSTVWXYZ") == BH_ULID_TEXT - 1;
}

static void
read_code(struct bh_request *request, const char **ret_code)
{
    const char *code = bh_query_get(&request->query, "code");

    if (code != NULL &&
        (strlen(code) != 5 || strspn(code, "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ") != 5))
        bh_param_bad(request, "code", "must be an SQLSTATE: five capitals or digits");
    *ret_code = code;
}

BH_HANDLER(bh_audit_get)
{
    struct bh_writer w = {.buf = &reply->body};
    struct bh_list list = {.tenant = bh_query_get(&request->query, "tenant")};
    struct bh_audit_filter filter = {0};
    struct bh_audit_row *rows;
    int64_t from_us = 0;
    int64_t to_us = 0;
    size_t count;
    bool more;

    bh_page_read(request, &list.limit, &list.after);
    if (list.after != NULL && !is_id(list.after))
        bh_param_bad(request, "page_token", "is no page token of this list");
    read_code(request, &filter.sqlstate);
    bh_param_time(request, "from", &from_us);
    bh_param_time(request, "to", &to_us);
    BH_TRY(bh_issues_code(&request->issues, err));
    if (bh_query_get(&request->query, "from") != NULL)
        filter.from_us = &from_us;
    if (bh_query_get(&request->query, "to") != NULL)
        filter.to_us = &to_us;
    BH_TRY(bh_audit_list(request->db, request->arena, &list, &filter, &rows, &count, &more, err));
    bh_page_begin(&w);
    for (size_t i = 0; i < count; i++)
        write_row(&w, &rows[i]);
    bh_page_end(request, &w, more && count > 0 ? rows[count - 1].id : NULL);
    return BH_OK;
}
