/* Parameters that are accepted are known, unique and clean text; the others are named. */
#include "tests/fuzz/fuzz.h"

#include "control/api/query.h"

static const char *const known[] = {"limit", "page_token", "state", "q", NULL};

static void
check_query(const struct bh_query *query)
{
    for (size_t i = 0; i < query->count; i++) {
        struct bh_str value = query->params[i].value;
        bool listed = false;
        MUST(bh_utf8_valid(value) && strlen(value.data) == value.len);
        for (size_t k = 0; known[k] != NULL; k++)
            listed = listed || bh_str_is(query->params[i].name, known[k]);
        MUST(listed);
        for (size_t j = 0; j < i; j++)
            MUST(!bh_str_eq(query->params[i].name, query->params[j].name));
    }
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct bh_str raw = {(const char *)data, size};
    struct bh_chunks chunks;
    struct bh_issues issues;
    struct bh_query query;
    size_t parts = size > 0;

    bh_chunks_init(&chunks);
    bh_issues_init(&issues, &chunks.arena);
    bh_query_parse(raw, known, &issues, &query);
    MUST(!issues.failed);
    check_query(&query);
    for (size_t i = 0; i < size; i++)
        parts += data[i] == '&';
    MUST(query.count + issues.count <= parts);
    for (const struct bh_issue *issue = issues.first; issue != NULL; issue = issue->next)
        MUST(issue->pointer[0] == '?' && issue->detail[0] != '\0');
    bh_chunks_fini(&chunks);
    return 0;
}
