#include "agent/ports.h"

#include <arpa/inet.h>
#include <dirent.h>
#include <errno.h>
#include <netinet/in.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "agent/proc.h"

bool
bh_port_free(uint16_t port)
{
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return true;
    int one = 1;
    struct sockaddr_in addr = {.sin_family = AF_INET, .sin_port = htons(port)};
    addr.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    /* SO_REUSEADDR: connections of yesterday in TIME_WAIT do not count, as they do not for servers.
     */
    (void)setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
    bool ok = bind(fd, (struct sockaddr *)&addr, sizeof(addr)) == 0 && listen(fd, 1) == 0;
    int saved = errno;
    close(fd);
    return ok || saved != EADDRINUSE;
}

/* A line of /proc/net/tcp*: "sl local_address rem_address st ... inode"; state 0A listens. */
static unsigned long
listening_inode(const char *table, uint16_t port)
{
    FILE *file = fopen(table, "re");
    if (!file)
        return 0;
    char line[512];
    unsigned long found = 0;
    while (!found && fgets(line, sizeof(line), file)) {
        unsigned local, state;
        unsigned long inode;
        if (sscanf(line, " %*u: %*[0-9A-F]:%x %*[0-9A-F]:%*x %x %*s %*s %*s %*u %*u %lu", &local,
                &state, &inode) == 3 &&
            local == port && state == 0x0a)
            found = inode;
    }
    fclose(file);
    return found;
}

struct search {
    char link[64];
    pid_t pid;
};

static void
look_into(void *arg, const struct bh_proc *proc)
{
    struct search *search = arg;
    char path[64];
    snprintf(path, sizeof(path), "/proc/%d/fd", (int)proc->pid);
    DIR *dir = search->pid ? NULL : opendir(path);
    if (!dir)
        return;
    for (struct dirent *entry; !search->pid && (entry = readdir(dir));) {
        char link[64];
        ssize_t len = readlinkat(dirfd(dir), entry->d_name, link, sizeof(link) - 1);
        if (len <= 0)
            continue;
        link[len] = '\0';
        if (strcmp(link, search->link) == 0)
            search->pid = proc->pid;
    }
    closedir(dir);
}

pid_t
bh_port_holder(uint16_t port)
{
    static const char *const tables[] = {"/proc/net/tcp", "/proc/net/tcp6"};
    struct search search = {.pid = 0};
    for (size_t i = 0; i < 2 && !search.pid; i++) {
        unsigned long inode = listening_inode(tables[i], port);
        if (!inode)
            continue;
        snprintf(search.link, sizeof(search.link), "socket:[%lu]", inode);
        bh_proc_each(look_into, &search);
    }
    return search.pid;
}

enum bh_code
bh_port_taken(uint16_t port, const char *what, const char *flag, struct bh_error *err)
{
    struct bh_proc proc;
    pid_t holder = bh_port_holder(port);
    if (holder && bh_proc_read(holder, &proc))
        bh_fail(err, BH_E_CONFIG, "port %u of %s is taken by process %d (%s)", port, what,
            (int)holder, proc.name);
    else
        bh_fail(err, BH_E_CONFIG, "port %u of %s is taken by another process", port, what);
    bh_hint(err, "stop it, or choose another port: %s <port>", flag);
    return BH_E_CONFIG;
}
