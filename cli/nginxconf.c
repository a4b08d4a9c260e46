#include "cli/nginxconf.h"

#include <fnmatch.h>
#include <string.h>

#define FILE_MARK "# configuration file "
#define DEPTH_MAX 32
#define WORD_MAX ((size_t)65536)
#define NODES_MAX 1000000 /* files that include one another make any number */

/* One file of a dump. */
struct part {
    const char *name;
    struct bh_str text;
    struct part *next;
};

struct parser {
    struct bh_arena *arena;
    struct part *parts;
    struct bh_error *err;
    const char *file;
    const char *at;
    const char *end;
    unsigned line;
    int depth;    /* of blocks and includes */
    char *word;   /* room for one */
    size_t nodes; /* directives so far */
};

/* ---- words ---- */

static enum bh_code
wrong(struct parser *p, const char *what)
{
    return bh_fail(p->err, BH_E_INVALID, "%s:%u: %s", p->file, p->line, what);
}

static void
skip_space(struct parser *p)
{
    while (p->at < p->end) {
        if (*p->at == '#')
            while (p->at < p->end && *p->at != '\n')
                p->at++;
        else if (strchr(" \t\r\n", *p->at) == NULL || *p->at == '\0')
            return;
        else
            p->line += *p->at++ == '\n';
    }
}

/* Does a word without quotes end here?  A brace behind a dollar belongs to it: ${name}. */
static bool
ends_word(const struct parser *p, const char *word, size_t len)
{
    if (*p->at == '{' && len > 0 && word[len - 1] == '$')
        return false;
    return *p->at == '\0' || strchr(" \t\r\n;{", *p->at) != NULL;
}

static enum bh_code
read_word(struct parser *p, const char **ret_word)
{
    char quote = *p->at == '"' || *p->at == '\'' ? *p->at++ : '\0';
    size_t len = 0;

    while (p->at < p->end && (quote ? *p->at != quote : !ends_word(p, p->word, len))) {
        if (*p->at == '\\' && p->at + 1 < p->end &&
            (p->at[1] == '"' || p->at[1] == '\'' || p->at[1] == '\\'))
            p->at++;
        if (len == WORD_MAX)
            return wrong(p, "a word is too long");
        p->line += *p->at == '\n';
        p->word[len++] = *p->at++;
    }
    if (quote && p->at == p->end)
        return wrong(p, "a quote is not closed");
    p->at += quote != '\0';
    *ret_word = bh_arena_strndup(p->arena, p->word, len);
    return *ret_word != NULL ? BH_OK : bh_fail(p->err, BH_E_NO_MEMORY, "out of memory");
}

/* ---- directives ---- */

static struct bh_conf *
add_node(struct parser *p, struct bh_conf *parent)
{
    struct bh_conf *node = bh_arena_zalloc(p->arena, sizeof(*node));
    if (node == NULL)
        return NULL;
    node->file = p->file;
    node->line = p->line;
    node->parent = parent;
    if (parent->last != NULL)
        parent->last->next = node;
    else
        parent->first = node;
    parent->last = node;
    return node;
}

static enum bh_code parse_block(struct parser *p, struct bh_conf *block, bool inner);

static bool
matches(const char *pattern, const char *main_file, const char *file)
{
    const char *slash = strrchr(main_file, '/');
    size_t len = slash == NULL ? 0 : (size_t)(slash - main_file) + 1;

    if (fnmatch(pattern, file, FNM_PATHNAME) == 0)
        return true;
    return pattern[0] != '/' && strncmp(file, main_file, len) == 0 &&
           fnmatch(pattern, file + len, FNM_PATHNAME) == 0;
}

static enum bh_code
include(struct parser *p, struct bh_conf *parent, const char *pattern)
{
    struct parser outer = *p;
    enum bh_code code = BH_OK;

    if (p->depth == DEPTH_MAX)
        return wrong(p, "files are included too deeply");
    for (struct part *part = p->parts; part != NULL && code == BH_OK; part = part->next) {
        if (!matches(pattern, p->parts->name, part->name))
            continue;
        p->file = part->name;
        p->at = part->text.data;
        p->end = part->text.data + part->text.len;
        p->line = 1;
        p->depth = outer.depth + 1;
        code = parse_block(p, parent, false);
    }
    outer.nodes = p->nodes;
    *p = outer;
    return code;
}

/* Words up to `;` or the block. */
static enum bh_code
read_words(struct parser *p, struct bh_conf *node)
{
    const char *words[BH_CONF_ARGS_MAX];
    size_t count = 0;

    for (skip_space(p); p->at < p->end && *p->at != ';' && *p->at != '{'; skip_space(p)) {
        if (count == BH_CONF_ARGS_MAX)
            return wrong(p, "a directive has too many arguments");
        BH_TRY(read_word(p, &words[count++]));
    }
    if (p->at == p->end)
        return wrong(p, "the text ends within a directive");
    node->args = bh_arena_alloc(p->arena, (count + 1) * sizeof(*words));
    if (node->args == NULL)
        return bh_fail(p->err, BH_E_NO_MEMORY, "out of memory");
    memcpy(node->args, words, count * sizeof(*words));
    node->arg_count = count;
    return BH_OK;
}

static enum bh_code
parse_directive(struct parser *p, struct bh_conf *block)
{
    struct bh_conf *node = p->nodes++ < NODES_MAX ? add_node(p, block) : NULL;

    if (p->nodes > NODES_MAX)
        return wrong(p, "there are too many directives");
    if (node == NULL)
        return bh_fail(p->err, BH_E_NO_MEMORY, "out of memory");
    BH_TRY(read_word(p, &node->name));
    BH_TRY(read_words(p, node));
    if (*p->at++ == ';')
        return strcmp(node->name, "include") == 0 && node->arg_count == 1
                   ? include(p, block, node->args[0])
                   : BH_OK;
    if (p->depth == DEPTH_MAX)
        return wrong(p, "blocks are nested too deeply");
    p->depth++;
    BH_TRY(parse_block(p, node, true));
    p->depth--;
    return BH_OK;
}

static enum bh_code
parse_block(struct parser *p, struct bh_conf *block, bool inner)
{
    for (skip_space(p); p->at < p->end; skip_space(p)) {
        if (*p->at == '}') {
            if (!inner)
                return wrong(p, "a block ends that never began");
            p->at++;
            return BH_OK;
        }
        if (*p->at == ';' || *p->at == '{' || *p->at == '\0')
            return wrong(p, "this is no nginx configuration");
        BH_TRY(parse_directive(p, block));
    }
    return inner ? wrong(p, "a block is not closed") : BH_OK;
}

/* ---- the dump ---- */

static const char *
find_mark(struct bh_str text)
{
    const char *at = text.data;
    const char *end = text.data + text.len;

    while (at < end) {
        const char *newline = memchr(at, '\n', (size_t)(end - at));
        if ((size_t)(end - at) > strlen(FILE_MARK) && memcmp(at, FILE_MARK, strlen(FILE_MARK)) == 0)
            return at;
        if (newline == NULL)
            return NULL;
        at = newline + 1;
    }
    return NULL;
}

/* The files of a dump, in its order; ${text} itself where it is none. */
static enum bh_code
split(struct parser *p, struct bh_str text, const char *name)
{
    struct part **link = &p->parts;
    const char *end = text.data + text.len;
    const char *mark = find_mark(text);

    do {
        struct part *part = bh_arena_zalloc(p->arena, sizeof(*part));
        if (part == NULL)
            return bh_fail(p->err, BH_E_NO_MEMORY, "out of memory");
        *part = (struct part){.name = name, .text = text};
        if (mark != NULL) {
            const char *start = mark + strlen(FILE_MARK);
            const char *newline = memchr(start, '\n', (size_t)(end - start));
            const char *body = newline == NULL ? end : newline + 1;
            size_t len = (size_t)((newline == NULL ? end : newline) - start);
            mark = find_mark((struct bh_str){body, (size_t)(end - body)});
            part->text = (struct bh_str){body, (size_t)((mark == NULL ? end : mark) - body)};
            part->name =
                bh_arena_strndup(p->arena, start, len > 0 && start[len - 1] == ':' ? len - 1 : len);
        }
        if (part->name == NULL)
            return bh_fail(p->err, BH_E_NO_MEMORY, "out of memory");
        *link = part;
        link = &part->next;
    } while (mark != NULL);
    return BH_OK;
}

enum bh_code
bh_conf_parse(struct bh_str text, const char *name, struct bh_arena *arena,
    struct bh_conf **ret_root, struct bh_error *err)
{
    struct parser p = {.arena = arena, .err = err, .line = 1};
    struct bh_conf *root = bh_arena_zalloc(arena, sizeof(*root));

    p.word = bh_arena_alloc(arena, WORD_MAX);
    if (root == NULL || p.word == NULL)
        return bh_fail(err, BH_E_NO_MEMORY, "out of memory");
    BH_TRY(split(&p, text, name));
    root->name = "";
    root->file = p.file = p.parts->name;
    p.at = p.parts->text.data;
    p.end = p.at + p.parts->text.len;
    BH_TRY(parse_block(&p, root, false));
    *ret_root = root;
    return BH_OK;
}

/* ---- looking ---- */

bool
bh_conf_is(const struct bh_conf *conf, const char *name)
{
    return strcmp(conf->name, name) == 0;
}

struct bh_conf *
bh_conf_next(const struct bh_conf *root, const struct bh_conf *conf)
{
    if (conf->first != NULL)
        return conf->first;
    while (conf != root && conf->next == NULL)
        conf = conf->parent;
    return conf == root ? NULL : conf->next;
}

const struct bh_conf *
bh_conf_child(const struct bh_conf *block, const char *name)
{
    const struct bh_conf *found = NULL;

    for (const struct bh_conf *conf = block->first; conf != NULL; conf = conf->next)
        if (bh_conf_is(conf, name))
            found = conf;
    return found;
}

const struct bh_conf *
bh_conf_here(const struct bh_conf *place, const char *name)
{
    const struct bh_conf *found = NULL;

    for (; place != NULL && found == NULL; place = place->parent)
        found = bh_conf_child(place, name);
    return found;
}

const struct bh_conf *
bh_conf_around(const struct bh_conf *conf, const char *name)
{
    while (conf != NULL && !bh_conf_is(conf, name))
        conf = conf->parent;
    return conf;
}

const char *
bh_conf_arg(const struct bh_conf *conf, size_t i)
{
    return conf != NULL && i < conf->arg_count ? conf->args[i] : "";
}
