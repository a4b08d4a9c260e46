/*
 * bulkhead-shop: a small shop that was written for one customer and serves many.
 *
 * It knows nothing of tenants but two headers of the edge: it shows one to the
 * database and connects where the other says.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <getopt.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "http.h"
#include "pool.h"

#define EXIT_USAGE 64
#define EXIT_LISTEN 78

static const char usage[] =
    "usage: bulkhead-shop --listen ADDRESS:PORT --database CONNINFO\n"
    "  --listen    IPv4 address and port, e.g. 127.0.0.1:7090\n"
    "  --database  libpq connection string without dbname and password; passwords come from\n"
    "              PGPASSFILE, the name from each request's X-Bulkhead-Database\n";

static bool
parse_address(const char *text, struct sockaddr_in *ret_address)
{
    char host[INET_ADDRSTRLEN];
    const char *colon = strrchr(text, ':');
    if (colon == NULL || (size_t)(colon - text) >= sizeof(host))
        return false;
    memcpy(host, text, (size_t)(colon - text));
    host[colon - text] = '\0';
    char *end = NULL;
    long port = strtol(colon + 1, &end, 10);
    if (end == colon + 1 || *end != '\0' || port < 1 || port > 65535)
        return false;
    *ret_address = (struct sockaddr_in){.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
    return inet_pton(AF_INET, host, &ret_address->sin_addr) == 1;
}

static bool
parse_options(int argc, char **argv, const char **ret_listen, const char **ret_database)
{
    static const struct option options[] = {{"listen", required_argument, NULL, 'l'},
        {"database", required_argument, NULL, 'd'}, {NULL, 0, NULL, 0}};
    int option;
    while ((option = getopt_long(argc, argv, "", options, NULL)) != -1) {
        if (option == 'l')
            *ret_listen = optarg;
        else if (option == 'd')
            *ret_database = optarg;
        else
            return false;
    }
    return optind == argc && *ret_listen != NULL && *ret_database != NULL;
}

/* Sweep the pool until somebody asks us to leave. */
static void
wait_for_end(const sigset_t *ends, struct shop_pool *pool)
{
    const struct timespec pause = {.tv_sec = 5};
    while (sigtimedwait(ends, NULL, &pause) < 0)
        shop_pool_sweep(pool);
}

int
main(int argc, char **argv)
{
    const char *listen = NULL, *database = NULL;
    struct sockaddr_in address;
    if (!parse_options(argc, argv, &listen, &database) || !parse_address(listen, &address)) {
        fputs(usage, stderr);
        return EXIT_USAGE;
    }
    signal(SIGPIPE, SIG_IGN);
    sigset_t ends;
    sigemptyset(&ends);
    sigaddset(&ends, SIGTERM);
    sigaddset(&ends, SIGINT);
    sigaddset(&ends, SIGQUIT);
    pthread_sigmask(SIG_BLOCK, &ends, NULL); /* before any thread starts */

    struct shop_pool *pool = shop_pool_new(database);
    struct shop_server *server = pool != NULL ? shop_server_start(&address, pool) : NULL;
    if (server == NULL) {
        fprintf(stderr, "bulkhead-shop: cannot listen on %s: %s\n", listen, strerror(errno));
        return EXIT_LISTEN;
    }
    wait_for_end(&ends, pool);
    shop_server_stop(server);
    shop_pool_free(pool);
    return EXIT_SUCCESS;
}
