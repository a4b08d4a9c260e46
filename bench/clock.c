/*
 * A second nginx module, for bench/edge alone: how long the requests spend inside
 * the module under test, without a line in it.  It stands before and behind
 * the handlers that ngx_http_bulkhead_module put into nginx's phases, and above and
 * below its header filter, and writes a number per request into a file:
 * the 8 bytes of a count, then nanoseconds as 32-bit integers.
 *
 * What is not seen: the choice of the endpoint, a callback inside the upstream.
 */
#include <ngx_config.h>
#include <ngx_core.h>
#include <ngx_http.h>

#include <dlfcn.h>
#include <fcntl.h>
#include <stdint.h>
#include <sys/mman.h>
#include <time.h>

#define VISIBLE __attribute__((visibility("default")))
#define SAMPLES (1U << 22)
#define HANDLERS 4

struct record {
    uint64_t count;
    uint32_t ns[SAMPLES];
};

struct conf {
    ngx_str_t file;
};

struct spent {
    uint64_t ns;
    uint64_t below_ns; /* of the header filter: what came after it */
};

static struct record *record;
static ngx_http_handler_pt originals[HANDLERS];
static size_t handlers;
static ngx_http_output_header_filter_pt next_above;
static ngx_http_output_header_filter_pt next_below;

VISIBLE extern ngx_module_t ngx_http_bench_above_module;
VISIBLE extern ngx_module_t ngx_http_bench_below_module;

static uint64_t
now(void)
{
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (uint64_t)time.tv_sec * UINT64_C(1000000000) + (uint64_t)time.tv_nsec;
}

static struct spent *
spent_of(ngx_http_request_t *r)
{
    struct spent *spent = ngx_http_get_module_ctx(r, ngx_http_bench_above_module);
    if (spent == NULL) {
        spent = ngx_pcalloc(r->pool, sizeof(*spent));
        ngx_http_set_ctx(r, spent, ngx_http_bench_above_module);
    }
    return spent;
}

static ngx_int_t
timed(ngx_http_request_t *r, size_t i)
{
    struct spent *spent = spent_of(r);
    uint64_t start = now();
    ngx_int_t rc = originals[i](r);
    spent->ns += now() - start;
    return rc;
}

static ngx_int_t
timed_0(ngx_http_request_t *r)
{
    return timed(r, 0);
}
static ngx_int_t
timed_1(ngx_http_request_t *r)
{
    return timed(r, 1);
}
static ngx_int_t
timed_2(ngx_http_request_t *r)
{
    return timed(r, 2);
}
static const ngx_http_handler_pt wrappers[] = {timed_0, timed_1, timed_2};

/* The last of the module's handlers: the sum is complete. */
static ngx_int_t
timed_log(ngx_http_request_t *r)
{
    ngx_int_t rc = timed(r, HANDLERS - 1);
    if (record != NULL && record->count < SAMPLES) {
        record->ns[record->count++] = (uint32_t)spent_of(r)->ns;
    }
    return rc;
}

static ngx_int_t
above(ngx_http_request_t *r)
{
    struct spent *spent = spent_of(r);
    uint64_t start = now();
    ngx_int_t rc = next_above(r);
    spent->ns += now() - start - spent->below_ns;
    return rc;
}

static ngx_int_t
below(ngx_http_request_t *r)
{
    uint64_t start = now();
    ngx_int_t rc = next_below(r);
    spent_of(r)->below_ns = now() - start;
    return rc;
}

static ngx_int_t
push_above(ngx_conf_t *cf)
{
    (void)cf;
    next_above = ngx_http_top_header_filter;
    ngx_http_top_header_filter = above;
    return NGX_OK;
}

static ngx_int_t
push_below(ngx_conf_t *cf)
{
    (void)cf;
    next_below = ngx_http_top_header_filter;
    ngx_http_top_header_filter = below;
    return NGX_OK;
}

static int
is_ours(ngx_http_handler_pt handler)
{
    Dl_info info;
    return handler != NULL && dladdr((void *)(uintptr_t)handler, &info) != 0 &&
           strstr(info.dli_fname, "ngx_http_bulkhead_module") != NULL;
}

static ngx_int_t
wrap_handlers(ngx_cycle_t *cycle)
{
    ngx_http_core_main_conf_t *core =
        ngx_http_cycle_get_module_main_conf(cycle, ngx_http_core_module);
    for (ngx_http_phase_handler_t *ph = core->phase_engine.handlers; ph->checker != NULL; ph++) {
        if (is_ours(ph->handler) && handlers < HANDLERS - 1) {
            originals[handlers] = ph->handler;
            ph->handler = wrappers[handlers++];
        }
    }
    ngx_array_t *log = &core->phases[NGX_HTTP_LOG_PHASE].handlers;
    for (ngx_uint_t i = 0; i < log->nelts; i++) {
        ngx_http_handler_pt *handler = (ngx_http_handler_pt *)log->elts + i;
        if (is_ours(*handler)) {
            originals[HANDLERS - 1] = *handler;
            *handler = timed_log;
        }
    }
    if (handlers < 2 || originals[HANDLERS - 1] == NULL) {
        ngx_log_error(
            NGX_LOG_EMERG, cycle->log, 0, "bench_clock: where are the module's handlers?");
        return NGX_ERROR;
    }
    return NGX_OK;
}

static ngx_int_t
map_file(ngx_cycle_t *cycle)
{
    struct conf *conf = ngx_http_cycle_get_module_main_conf(cycle, ngx_http_bench_above_module);
    int fd = open((const char *)conf->file.data, O_RDWR | O_CREAT, 0666);
    if (fd < 0 || ftruncate(fd, sizeof(struct record)) != 0) {
        return NGX_ERROR;
    }
    void *map = mmap(NULL, sizeof(struct record), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    close(fd);
    record = map == MAP_FAILED ? NULL : map;
    return record == NULL ? NGX_ERROR : NGX_OK;
}

static void *
create_main(ngx_conf_t *cf)
{
    return ngx_pcalloc(cf->pool, sizeof(struct conf));
}

static ngx_command_t commands[] = {
    {ngx_string("bench_clock"), NGX_HTTP_MAIN_CONF | NGX_CONF_TAKE1, ngx_conf_set_str_slot,
        NGX_HTTP_MAIN_CONF_OFFSET, offsetof(struct conf, file), NULL},
    ngx_null_command,
};

static ngx_http_module_t above_ctx = {
    .postconfiguration = push_above, .create_main_conf = create_main};
static ngx_http_module_t below_ctx = {.postconfiguration = push_below};

VISIBLE ngx_module_t ngx_http_bench_above_module = {
    NGX_MODULE_V1,
    .ctx = &above_ctx,
    .commands = commands,
    .type = NGX_HTTP_MODULE,
    .init_module = wrap_handlers,
    .init_process = map_file,
};

VISIBLE ngx_module_t ngx_http_bench_below_module = {
    NGX_MODULE_V1,
    .ctx = &below_ctx,
    .type = NGX_HTTP_MODULE,
};

static char above_name[] = "ngx_http_bench_above_module";
static char below_name[] = "ngx_http_bench_below_module";
static char tested_name[] = "ngx_http_bulkhead_module";
static char range_filter_name[] = "ngx_http_range_header_filter_module";
VISIBLE extern char *ngx_module_order[];
VISIBLE ngx_module_t *ngx_modules[] = {
    &ngx_http_bench_below_module, &ngx_http_bench_above_module, NULL};
VISIBLE char *ngx_module_names[] = {below_name, above_name, NULL};
VISIBLE char *ngx_module_order[] = {below_name, tested_name, above_name, range_filter_name, NULL};
