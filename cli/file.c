#include "cli/file.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <fnmatch.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "cli/out.h"

#define SHOWN_MAX 120 /* characters of a line that are shown */

static bool
continues(char c)
{
    return ((unsigned char)c & 0xc0) == 0x80;
}

/* The part of ${line} around character ${column}; ${column} becomes its place in it. */
static struct bh_str
window(struct bh_str line, unsigned *column)
{
    size_t start = 0;
    size_t end;
    unsigned skip = *column > SHOWN_MAX - 20 ? *column - (SHOWN_MAX - 40) : 0;

    for (unsigned n = 0; n < skip && start < line.len; n++)
        do
            start++;
        while (start < line.len && continues(line.data[start]));
    end = start;
    for (unsigned n = 0; n < SHOWN_MAX && end < line.len; n++)
        do
            end++;
        while (end < line.len && continues(line.data[end]));
    *column -= skip;
    return (struct bh_str){line.data + start, end - start};
}

void
bh_file_show(const struct bh_file *file, struct bh_yaml_mark mark, const char *detail)
{
    struct bh_str line = bh_yaml_line(file->text, mark.line);
    unsigned column = mark.column;
    int width;

    bh_out_message(stderr, "%s:%u:%u: %s", file->name, mark.line, mark.column, detail);
    line = window(line, &column);
    width = fprintf(stderr, "%5u | ", mark.line);
    bh_out_text(stderr, line);
    (void)fprintf(stderr, "\n%*s", width, "| ");
    for (size_t i = 0; i < line.len && column > 1; i++) {
        if (continues(line.data[i]))
            continue;
        (void)fputc(line.data[i] == '\t' ? '\t' : ' ', stderr);
        column--;
    }
    (void)fprintf(
        stderr, "%s^%s\n", bh_out_paint(stderr, BH_COLOR_RED), bh_out_paint(stderr, BH_COLOR_NONE));
}

/* ---- finding ---- */

struct names {
    struct bh_arena *arena;
    const char **items;
    size_t count;
    size_t room;
};

static bool
add_name(struct names *names, const char *name)
{
    const char **items = names->items;

    if (name == NULL)
        return false;
    if (names->count == names->room) {
        size_t room = names->room == 0 ? 64 : names->room * 2;
        items = bh_arena_alloc(names->arena, room * sizeof(*items));
        if (items == NULL)
            return false;
        if (names->count > 0)
            memcpy(items, names->items, names->count * sizeof(*items));
        names->items = items;
        names->room = room;
    }
    items[names->count++] = name;
    return true;
}

static int
report_path(const char *path, int error)
{
    bh_out_message(stderr, "bulkhead: %s: %s", path, strerror(error));
    if (error == EACCES || error == EPERM)
        return bh_code_exit(BH_E_NOT_PERMITTED);
    return error == ENOENT || error == ENOTDIR ? BH_EXIT_NOT_FOUND : BH_EXIT_INPUT;
}

static int
compare_text(const void *a, const void *b)
{
    return strcmp(*(const char *const *)a, *(const char *const *)b);
}

static bool
is_file(const char *path)
{
    struct stat st;

    return path != NULL && stat(path, &st) == 0 && !S_ISDIR(st.st_mode);
}

/* `*.yaml` and `*` + `/tenant.yaml` in ${path}, by name. */
static int
list_directory(struct names *names, const char *path)
{
    size_t before = names->count;
    size_t len = strlen(path);
    const char *slash = len > 0 && path[len - 1] == '/' ? "" : "/";
    DIR *directory = opendir(path);
    struct dirent *entry;
    bool ok = true;

    if (directory == NULL)
        return report_path(path, errno);
    while (ok && (entry = readdir(directory)) != NULL) {
        const char *name;
        if (entry->d_name[0] == '.')
            continue;
        name = bh_arena_printf(names->arena, "%s%s%s", path, slash, entry->d_name);
        if (!is_file(name) || fnmatch("*.yaml", entry->d_name, 0) != 0)
            name = bh_arena_printf(names->arena, "%s%s%s/tenant.yaml", path, slash, entry->d_name);
        if (name == NULL || is_file(name))
            ok = add_name(names, name);
    }
    (void)closedir(directory);
    if (!ok)
        return bh_cli_no_memory();
    if (names->count == before) {
        bh_out_message(stderr, "bulkhead: %s: no tenant files (*.yaml, */tenant.yaml) in it", path);
        return BH_EXIT_NOT_FOUND;
    }
    qsort(names->items + before, names->count - before, sizeof(*names->items), compare_text);
    return 0;
}

static int
find_files(struct bh_cli *cli, struct names *names, bool *ret_list)
{
    struct stat st = {0}; /* of standard input too: no directory */

    *ret_list = cli->file_count > 1;
    for (size_t i = 0; i < cli->file_count; i++) {
        const char *path = cli->files[i];
        int code = 0;
        if (strcmp(path, "-") != 0 && stat(path, &st) != 0)
            return report_path(path, errno);
        if (S_ISDIR(st.st_mode) && strcmp(path, "-") != 0) {
            *ret_list = true;
            code = list_directory(names, path);
        } else if (!add_name(names, path)) {
            code = bh_cli_no_memory();
        }
        if (code != 0)
            return code;
    }
    return 0;
}

/* ---- reading ---- */

static int
read_text(struct bh_arena *arena, struct bh_file *file, const char *path)
{
    bool standard = strcmp(path, "-") == 0;
    int fd = standard ? STDIN_FILENO : open(path, O_RDONLY | O_CLOEXEC);
    char *data = bh_arena_alloc(arena, BH_TENANT_DOC_MAX + 1);
    size_t len = 0;
    ssize_t got = 1;

    file->name = standard ? "<stdin>" : path;
    if (fd < 0)
        return report_path(path, errno);
    while (data != NULL && got > 0 && len <= BH_TENANT_DOC_MAX) {
        got = read(fd, data + len, BH_TENANT_DOC_MAX + 1 - len);
        if (got < 0 && errno == EINTR)
            got = 1;
        else if (got > 0)
            len += (size_t)got;
    }
    if (!standard)
        (void)close(fd);
    if (data == NULL)
        return bh_cli_no_memory();
    if (got < 0)
        return report_path(file->name, errno);
    if (len > BH_TENANT_DOC_MAX) {
        bh_out_message(stderr, "%s:1:1: larger than %d KiB, which no tenant file is", file->name,
            BH_TENANT_DOC_MAX / 1024);
        return BH_EXIT_INPUT;
    }
    file->text = (struct bh_str){data, len};
    return 0;
}

/* ---- checking ---- */

/* The member that ${issue} is about, as its last pointer segment spells it. */
static const char *
member_of(const struct bh_issue *issue)
{
    const char *slash = strrchr(issue->pointer, '/');

    return slash == NULL ? "" : slash + 1;
}

static const char *
what_of(const struct bh_file *file)
{
    return file->tier ? "a tier file" : "a tenant file";
}

static void
show_issue(const struct bh_file *file, const struct bh_issue *issue)
{
    struct bh_yaml_mark mark = {1, 1};
    const char *name = member_of(issue);
    char detail[BH_DETAIL_MAX];

    if (issue->at != NULL)
        mark = issue->kind == BH_ISSUE_UNKNOWN ? bh_yaml_node_of(issue->at)->key
                                               : bh_yaml_node_of(issue->at)->value;
    if (issue->kind == BH_ISSUE_UNKNOWN)
        (void)snprintf(detail, sizeof(detail), "unknown key \"%.64s\"%s%s%s", name,
            issue->suggestion ? "; did you mean \"" : "",
            issue->suggestion ? issue->suggestion : "", issue->suggestion ? "\"?" : "");
    else if (issue->kind == BH_ISSUE_MISSING)
        (void)snprintf(detail, sizeof(detail), "the key \"%s\" is missing", name);
    else
        (void)snprintf(
            detail, sizeof(detail), "%s: %s", *name ? name : what_of(file), issue->detail);
    bh_file_show(file, mark, detail);
}

static int
check_file(struct bh_arena *arena, struct bh_file *file)
{
    struct bh_issues issues;
    struct bh_yaml_mark mark = {1, 1};
    struct bh_error err;

    if (bh_yaml_parse(file->text, arena, &file->root, &mark, &err) != BH_OK) {
        bh_file_show(file, mark, err.detail);
        return bh_code_exit(err.code);
    }
    bh_issues_init(&issues, arena);
    file->tier = bh_tier_doc_is(&file->root->json);
    if (file->tier)
        bh_tier_doc_read(&file->root->json, (struct bh_str){NULL, 0}, &issues, &file->tier_doc);
    else
        bh_tenant_doc_read(&file->root->json, (struct bh_str){NULL, 0}, &issues, &file->doc);
    for (const struct bh_issue *issue = issues.first; issue != NULL; issue = issue->next)
        show_issue(file, issue);
    if (issues.count > 0)
        return BH_EXIT_INPUT;
    struct bh_str id = file->tier ? file->tier_doc.name : file->doc.id;
    file->id = bh_arena_strndup(arena, id.data, id.len);
    file->label = file->tier ? bh_arena_printf(arena, "tier/%s", file->id) : file->id;
    return issues.failed || file->id == NULL || file->label == NULL ? bh_cli_no_memory() : 0;
}

/* One id in two files: said at the second. */
static int
check_twice(const struct bh_files *files)
{
    int code = 0;

    for (size_t i = 1; i < files->count; i++)
        for (size_t j = 0; j < i; j++) {
            const struct bh_file *file = &files->items[i];
            const struct bh_yaml_node *id;
            char detail[BH_DETAIL_MAX];
            if (file->id == NULL || files->items[j].id == NULL ||
                strcmp(file->label, files->items[j].label) != 0)
                continue;
            id = bh_yaml_find(file->root, file->tier ? "/name" : "/id");
            (void)snprintf(detail, sizeof(detail), "%s \"%s\" is declared by %s already",
                file->tier ? "tier" : "tenant", file->id, files->items[j].name);
            bh_file_show(file, id->value, detail);
            code = BH_EXIT_INPUT;
            break;
        }
    return code;
}

/* Tenants may be of tiers that other files make: tiers first, else the order stays. */
static int
put_tiers_first(struct bh_arena *arena, struct bh_files *files)
{
    struct bh_file *items = bh_arena_alloc(arena, files->count * sizeof(*items));
    size_t count = 0;

    if (items == NULL)
        return bh_cli_no_memory();
    for (int tier = 1; tier >= 0; tier--)
        for (size_t i = 0; i < files->count; i++)
            if (files->items[i].tier == (tier == 1))
                items[count++] = files->items[i];
    files->items = items;
    return 0;
}

int
bh_files_read(struct bh_cli *cli, struct bh_files *ret_files)
{
    struct names names = {.arena = cli->arena};
    int code = find_files(cli, &names, &ret_files->list);
    int twice;

    if (code != 0)
        return code;
    ret_files->count = names.count;
    ret_files->items = bh_arena_zalloc(cli->arena, names.count * sizeof(*ret_files->items));
    if (ret_files->items == NULL)
        return bh_cli_no_memory();
    for (size_t i = 0; i < names.count; i++) {
        struct bh_file *file = &ret_files->items[i];
        int wrong = read_text(cli->arena, file, names.items[i]);
        if (wrong == 0)
            wrong = check_file(cli->arena, file);
        if (code == 0)
            code = wrong;
    }
    twice = check_twice(ret_files);
    if (code == 0)
        code = twice;
    return code != 0 ? code : put_tiers_first(cli->arena, ret_files);
}
