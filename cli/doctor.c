/*
 * bulkhead doctor: is this machine's edge set up so that it keeps its promises?
 *
 * The node is asked of the agent, programs and nginx's configuration are read
 * from files; nothing is run and nothing is changed.
 */
#include "cli/doctor.h"

#include <fcntl.h>
#include <limits.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "bh_config.h"
#include "cli/http.h"
#include "cli/out.h"
#include "cli/state.h"
#include "cli/status.h"
#include "core/buf.h"

#define AGENT_TIMEOUT_MS 3000
#define AGE_MAX_MS 15000 /* three heartbeats of the feed */
#define CONF_MAX ((size_t)16 << 20)
#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

/* ---- what is said ---- */

static const char *const findings[] = {"ok", "skipped", "warning", "error"};

/* JSON holds UTF-8 only, and a configuration any bytes. */
static json_t *
any_text(char *text)
{
    json_t *value = json_string(text);

    for (char *at = text; value == NULL && *at != '\0'; at++)
        if ((unsigned char)*at >= 0x80)
            *at = '?';
    return value != NULL ? value : json_string(text);
}

void
bh_doctor_say(struct bh_doctor *doctor, enum bh_finding finding, const struct bh_conf *where,
    const char *next, const char *fmt, ...)
{
    char text[1024];
    char place[PATH_MAX + 16] = "";
    va_list args;

    va_start(args, fmt);
    (void)vsnprintf(text, sizeof(text), fmt, args);
    va_end(args);
    if (where != NULL)
        (void)snprintf(place, sizeof(place), "%s:%u", where->file, where->line);
    (void)json_array_append_new(
        doctor->items, json_pack("{s:s, s:s, s:o, s:o, s:s?}", "check", doctor->check, "state",
                           findings[finding], "detail", any_text(text), "where",
                           where == NULL ? json_null() : any_text(place), "next", next));
    doctor->said++;
    doctor->errors += finding == BH_FINDING_ERROR;
}

void
bh_doctor_begin(struct bh_doctor *doctor, const char *check)
{
    doctor->check = check;
    doctor->said = 0;
}

void
bh_doctor_end(struct bh_doctor *doctor, const char *fine)
{
    if (doctor->said == 0)
        bh_doctor_say(doctor, BH_FINDING_OK, NULL, NULL, "%s", fine);
}

/* A command of this program, as it can be typed. */
static const char *
command(const struct bh_doctor *doctor, const char *words)
{
    return bh_arena_printf(doctor->cli->arena, "%s %s", doctor->cli->program, words);
}

/* ---- the node ---- */

struct node {
    const struct bh_state *state;
    const json_t *status; /* as `status -o json` */
    json_t *facts;        /* the agent's /doctor; NULL where it is silent */
};

static json_t *
ask_agent(struct bh_cli *cli, const struct bh_state *state)
{
    struct bh_request request = {.method = "GET", .path = "/doctor"};
    struct bh_client client;
    struct bh_answer answer;
    struct bh_error err;

    if (bh_client_agent(cli, state, &client, &err) != BH_OK)
        return NULL;
    client.token = NULL;
    client.timeout_ms = AGENT_TIMEOUT_MS;
    if (bh_client_call(&client, &request, &answer, &err) != BH_OK) {
        json_decref(answer.body);
        answer.body = NULL;
    }
    bh_client_close(&client);
    return answer.body;
}

static json_int_t
number(const json_t *object, const char *name)
{
    return json_integer_value(json_object_get(object, name));
}

static void
check_components(struct bh_doctor *d, const struct node *node)
{
    size_t i;
    json_t *entry;

    json_array_foreach(json_object_get(node->status, "components"), i, entry)
    {
        const char *name = bh_json_text(entry, "name");
        const char *is = bh_json_text(entry, "state");
        if (is == NULL || strcmp(is, "up") != 0)
            bh_doctor_say(d, BH_FINDING_ERROR, NULL, command(d, "up"), "%s is %s",
                name == NULL ? "a component" : name, is == NULL ? "unknown" : is);
    }
}

/* A program that was replaced while it runs is not the one that was installed. */
static void
check_programs(struct bh_doctor *d, const struct node *node)
{
    size_t i;
    json_t *entry;
    const char *version = bh_json_text(node->facts, "version");
    const char *commit = bh_json_text(node->facts, "commit");

    if (version != NULL && commit != NULL &&
        (strcmp(version, BH_VERSION) != 0 || strcmp(commit, BH_COMMIT) != 0))
        bh_doctor_say(d, BH_FINDING_ERROR, NULL, command(d, "up"),
            "the agent is %s (%s), this program is " BH_VERSION " (" BH_COMMIT ")", version,
            commit);
    json_array_foreach(json_object_get(node->status, "components"), i, entry)
    {
        char link[64];
        char path[PATH_MAX];
        static const char gone[] = " (deleted)";
        (void)snprintf(
            link, sizeof(link), "/proc/%" JSON_INTEGER_FORMAT "/exe", number(entry, "pid"));
        ssize_t len = readlink(link, path, sizeof(path) - 1);
        if (len < (ssize_t)sizeof(gone))
            continue;
        path[len] = '\0';
        if (strcmp(path + len - strlen(gone), gone) == 0)
            bh_doctor_say(d, BH_FINDING_ERROR, NULL, command(d, "up"),
                "%s runs a program that was replaced since: %s", bh_json_text(entry, "name"), path);
    }
}

static void
check_snapshot(struct bh_doctor *d, const struct node *node)
{
    const json_t *snapshot = json_object_get(node->facts, "snapshot");

    if (!json_is_true(json_object_get(snapshot, "in_step")) ||
        number(snapshot, "age_ms") > AGE_MAX_MS)
        bh_doctor_say(d, BH_FINDING_ERROR, NULL, command(d, "status"),
            "the feed was last heard of %" JSON_INTEGER_FORMAT
            " s ago: the edge serves what was true then",
            number(snapshot, "age_ms") / 1000);
}

/* A table with places: when nine of ten are taken, it is time to say so. */
static void
say_taken(struct bh_doctor *d, json_int_t used, json_int_t max, const char *what, const char *next)
{
    bool full = used * 10 > max * 9;

    bh_doctor_say(d, full ? BH_FINDING_ERROR : BH_FINDING_OK, NULL, full ? next : NULL,
        "%" JSON_INTEGER_FORMAT " of %" JSON_INTEGER_FORMAT " places are taken%s%s", used, max,
        full ? ": " : "", full ? what : "");
}

static void
check_readers(struct bh_doctor *d, const struct node *node)
{
    const json_t *readers = json_object_get(json_object_get(node->facts, "snapshot"), "readers");
    json_int_t used = number(readers, "used");

    if (!json_is_object(readers)) {
        bh_doctor_say(d, BH_FINDING_SKIPPED, NULL, command(d, "doctor"),
            "the agent takes a whole snapshot just now");
        return;
    }
    if (number(readers, "stale") > 0)
        bh_doctor_say(d, BH_FINDING_WARNING, NULL, NULL,
            "%" JSON_INTEGER_FORMAT " of %" JSON_INTEGER_FORMAT
            " places are held by workers that died; the next worker that starts frees them",
            number(readers, "stale"), used);
    say_taken(d, used, number(readers, "max"), "a worker that finds none cannot serve",
        "reload nginx less often, or run fewer workers");
}

static void
check_counters(struct bh_doctor *d, const struct node *node)
{
    const json_t *counters = json_object_get(node->facts, "counters");
    const char *path = bh_json_text(counters, "path");

    if (json_is_true(json_object_get(counters, "replaced")) || path == NULL) {
        bh_doctor_say(d, BH_FINDING_ERROR, NULL, command(d, "doctor"),
            "the counters file was replaced a moment ago");
        return;
    }
    if (json_is_false(json_object_get(counters, "tmpfs")))
        bh_doctor_say(d, BH_FINDING_WARNING, NULL, "put bulkhead_counters below /dev/shm or /run",
            "%s is not on tmpfs: writing it back slows requests", path);
    if (json_is_integer(json_object_get(counters, "free_bytes")) &&
        number(counters, "free_bytes") < 1 << 20)
        bh_doctor_say(d, BH_FINDING_ERROR, NULL,
            bh_arena_printf(d->cli->arena, "make room: df %s", path),
            "the file system of %s is full: a worker that counts a new tenant dies of it", path);
    say_taken(d, number(counters, "slots_used"), number(counters, "slots"),
        "a tenant that finds none is 503",
        "stop the edge, remove the file, start it: numbers of removed tenants keep places");
}

static const struct {
    const char *name;
    const char *fine;
    void (*run)(struct bh_doctor *d, const struct node *node);
} node_checks[] = {
    {"programs", "what runs is what is installed", check_programs},
    {"snapshot", "in step with the control plane", check_snapshot},
    {"snapshot readers", "", check_readers},
    {"counters", "", check_counters},
};

static void
check_node(struct bh_doctor *d, const struct node *node)
{
    bh_doctor_begin(d, "components");
    check_components(d, node);
    bh_doctor_end(d, "all are up");
    for (size_t i = 0; i < COUNT(node_checks); i++) {
        bh_doctor_begin(d, node_checks[i].name);
        if (node->facts == NULL)
            bh_doctor_say(
                d, BH_FINDING_SKIPPED, NULL, command(d, "up"), "the agent does not answer");
        else
            node_checks[i].run(d, node);
        bh_doctor_end(d, node_checks[i].fine);
    }
}

/* ---- the module and its nginx ---- */

/* The version behind ${mark} in a program's file, in ${arena}; NULL where there is none. */
static const char *
find_version(const char *path, const char *mark, struct bh_arena *arena)
{
    struct stat st;
    const char *version = NULL;
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY);

    if (fd >= 0 && fstat(fd, &st) == 0 && S_ISREG(st.st_mode) && st.st_size > 0) {
        char *map = mmap(NULL, (size_t)st.st_size, PROT_READ, MAP_PRIVATE, fd, 0);
        if (map != MAP_FAILED) {
            const char *end = map + st.st_size;
            const char *at = memmem(map, (size_t)st.st_size, mark, strlen(mark));
            const char *start = at == NULL ? end : at + strlen(mark);
            size_t len = 0;
            while (start + len < end && strchr("0123456789.", start[len]) && start[len] != '\0')
                len++;
            if (len > 0)
                version = bh_arena_strndup(arena, start, len);
            (void)munmap(map, (size_t)st.st_size);
        }
    }
    if (fd >= 0)
        (void)close(fd);
    return version;
}

static const struct bh_conf *
load_module(const struct bh_conf *root)
{
    for (const struct bh_conf *conf = root->first; conf != NULL; conf = conf->next)
        if (bh_conf_is(conf, "load_module") &&
            strstr(bh_conf_arg(conf, 0), "ngx_http_bulkhead_module") != NULL)
            return conf;
    return NULL;
}

static void
check_module(struct bh_doctor *d, const struct bh_conf *root)
{
    const struct bh_conf *load = load_module(root);
    const char *path = bh_conf_arg(load, 0);
    const char *nginx = find_version("/usr/sbin/nginx", "nginx version: nginx/", d->cli->arena);
    const char *built = find_version(path, "bulkhead edge for nginx/", d->cli->arena);

    if (load == NULL)
        bh_doctor_say(d, BH_FINDING_ERROR, root,
            "write `load_module <dir>/ngx_http_bulkhead_module.so;`", "the module is not loaded");
    else if (nginx == NULL)
        bh_doctor_say(d, BH_FINDING_SKIPPED, NULL, NULL, "there is no /usr/sbin/nginx here");
    else if (built == NULL)
        bh_doctor_say(d, path[0] == '/' ? BH_FINDING_ERROR : BH_FINDING_SKIPPED, load, "make build",
            "%s is no module of ours that can be read here", path);
    else if (strcmp(built, nginx) != 0)
        bh_doctor_say(d, BH_FINDING_ERROR, load, "make build",
            "the module was built for nginx %s, and %s is installed", built, nginx);
    else
        bh_doctor_say(
            d, BH_FINDING_OK, NULL, NULL, "built for nginx %s, which is installed", nginx);
}

/* ---- the configuration ---- */

/* All of a file, or of standard input for "-". */
static enum bh_code
read_all(const char *path, struct bh_arena *arena, struct bh_str *ret_text, struct bh_error *err)
{
    FILE *file = strcmp(path, "-") == 0 ? stdin : fopen(path, "re");
    char *text = bh_arena_alloc(arena, CONF_MAX + 1);
    size_t len = file == NULL || text == NULL ? 0 : fread(text, 1, CONF_MAX + 1, file);
    bool failed = file == NULL || ferror(file);

    if (file != NULL && file != stdin)
        (void)fclose(file);
    if (failed)
        return bh_fail(err, BH_E_NOT_FOUND, "cannot read %s", path);
    if (text == NULL)
        return bh_fail(err, BH_E_NO_MEMORY, "out of memory");
    if (len > CONF_MAX)
        return bh_fail(err, BH_E_INVALID, "%s is larger than %zu bytes", path, CONF_MAX);
    *ret_text = (struct bh_str){text, len};
    return BH_OK;
}

/* Where neither is there, there is no edge on this machine to look at. */
static int
check_conf(struct bh_doctor *d, const struct bh_state *state)
{
    const char *given = d->cli->options[BH_OPT_NGINX_CONF];
    const char *path = given;
    struct bh_str text;
    struct bh_conf *root;
    struct bh_error err;

    if (path == NULL)
        path = bh_arena_printf(d->cli->arena, "%s/etc/nginx.conf", state->path);
    if (path == NULL)
        return bh_cli_no_memory();
    if (given == NULL && access(path, F_OK) != 0) {
        bh_doctor_begin(d, "nginx configuration");
        bh_doctor_say(d, BH_FINDING_SKIPPED, NULL, command(d, "doctor --nginx-conf FILE"),
            "there is no %s", path);
        return BH_EXIT_OK;
    }
    if (read_all(path, d->cli->arena, &text, &err) != BH_OK ||
        bh_conf_parse(
            text, strcmp(path, "-") == 0 ? "<stdin>" : path, d->cli->arena, &root, &err) != BH_OK) {
        (void)bh_hint(&err, "nginx -T prints the whole configuration");
        return bh_cli_report(&err);
    }
    bh_doctor_begin(d, "module");
    check_module(d, root);
    bh_doctor_edge(d, root);
    return BH_EXIT_OK;
}

/* ---- printing ---- */

static int
print_table(const json_t *items)
{
    struct bh_table *table = bh_table_new("CHECK|*STATE|WHAT|WHERE|NEXT");
    size_t i;
    json_t *item;

    json_array_foreach(items, i, item)
    {
        const char *cells[] = {bh_json_text(item, "check"), bh_json_text(item, "state"),
            bh_json_text(item, "detail"), bh_json_text(item, "where"), bh_json_text(item, "next")};
        bh_table_row(table, cells, COUNT(cells));
    }
    return bh_table_print(table);
}

int
bh_cmd_doctor(struct bh_cli *cli)
{
    struct bh_doctor doctor = {.cli = cli, .items = json_array()};
    struct bh_state state;
    struct bh_error err;
    struct node node = {.state = &state};
    bool only_conf = cli->options[BH_OPT_NGINX_CONF] != NULL;
    int code;

    if (bh_state_find(cli, &state, &err) != BH_OK)
        return bh_cli_report(&err);
    if (!only_conf || state.exists) {
        json_t *status = bh_status_read(cli, &state);
        node.status = status;
        node.facts = ask_agent(cli, &state);
        check_node(&doctor, &node);
        json_decref(node.facts);
        json_decref(status);
    }
    code = check_conf(&doctor, &state);
    if (code != BH_EXIT_OK) {
        json_decref(doctor.items);
        return code;
    }
    if (bh_cli_json(cli))
        return bh_out_json(json_pack("{s:o}", "items", doctor.items)) != BH_EXIT_OK ? BH_EXIT_FAILED
               : doctor.errors > 0 ? BH_EXIT_NEGATIVE
                                   : BH_EXIT_OK;
    code = print_table(doctor.items);
    json_decref(doctor.items);
    return code == BH_EXIT_OK && doctor.errors > 0 ? BH_EXIT_NEGATIVE : code;
}
