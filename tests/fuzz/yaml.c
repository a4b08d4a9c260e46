/* libFuzzer: a tenant file, read, checked and shown as the command line does. */
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include "cli/yaml.h"
#include "core/tenantdoc.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* What is wrong must lie in the file: showing it reads that line. */
static void
look_at(struct bh_str text, struct bh_yaml_mark mark)
{
    struct bh_str line = bh_yaml_line(text, mark.line);

    if (mark.line == 0 || mark.column == 0 || line.data < text.data ||
        line.data + line.len > text.data + text.len)
        abort();
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const struct bh_str text = {(const char *)data, size};
    struct bh_chunks chunks;
    struct bh_yaml_node *root;
    struct bh_yaml_mark mark;
    struct bh_issues issues;
    struct bh_tenant_doc doc;
    struct bh_error err;

    if (size > BH_TENANT_DOC_MAX)
        return 0;
    bh_chunks_init(&chunks);
    if (bh_yaml_parse(text, &chunks.arena, &root, &mark, &err) != BH_OK) {
        look_at(text, mark);
    } else {
        bh_issues_init(&issues, &chunks.arena);
        bh_tenant_doc_read(&root->json, (struct bh_str){NULL, 0}, &issues, &doc);
        for (const struct bh_issue *issue = issues.first; issue != NULL; issue = issue->next) {
            (void)bh_yaml_find(root, issue->pointer);
            if (issue->at != NULL)
                look_at(text, bh_yaml_node_of(issue->at)->value);
        }
    }
    bh_chunks_fini(&chunks);
    return 0;
}
