/* A port that is taken is seen, and its holder is named; /proc names a process by pid and start
 * time. */
#include "tests/unit/core/test.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <signal.h>
#include <stdio.h>
#include <sys/socket.h>
#include <unistd.h>

#include "agent/ports.h"
#include "agent/proc.h"

static int
listen_somewhere(uint16_t *ret_port)
{
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_true(fd >= 0);
    for (uint16_t port = 21000; port < 22000; port++) {
        struct sockaddr_in addr = {.sin_family = AF_INET, .sin_port = htons(port)};
        addr.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
        if (bind(fd, (struct sockaddr *)&addr, sizeof(addr)) == 0 && listen(fd, 1) == 0) {
            *ret_port = port;
            return fd;
        }
    }
    fail_msg("no port is free");
    return -1;
}

static void
sees_who_listens(void **state)
{
    (void)state;
    uint16_t port = 0;
    int fd = listen_somewhere(&port);
    assert_false(bh_port_free(port));
    assert_int_equal(bh_port_holder(port), getpid());
    struct bh_error err = {.code = BH_OK};
    char number[16];
    assert_code(bh_port_taken(port, "edge", "--edge-port", &err), BH_E_CONFIG);
    snprintf(number, sizeof(number), "%d", (int)getpid());
    assert_non_null(strstr(err.detail, number));
    assert_non_null(strstr(err.detail, "edge"));
    assert_non_null(strstr(err.hint, "--edge-port"));
    close(fd);
    assert_true(bh_port_free(port));
    assert_int_equal(bh_port_holder(port), 0);
}

static void
knows_processes_by_start(void **state)
{
    (void)state;
    struct bh_proc self;
    assert_true(bh_proc_read(getpid(), &self));
    assert_int_equal(self.pid, getpid());
    assert_int_equal(self.session, getsid(0));
    assert_true(bh_proc_alive(getpid(), self.started));
    assert_false(bh_proc_alive(getpid(), self.started + 1));
    assert_false(bh_proc_read(-1, &self));
    assert_false(bh_proc_read(0, &self));
}

/* A zombie has a pid and a start time, and is dead all the same. */
static void
zombies_are_dead(void **state)
{
    (void)state;
    struct bh_proc child;
    pid_t pid = fork();
    assert_true(pid >= 0);
    if (pid == 0) {
        pause();
        _exit(0);
    }
    assert_true(bh_proc_read(pid, &child));
    assert_true(bh_proc_alive(pid, child.started));
    assert_int_equal(kill(pid, 9), 0);
    struct bh_proc dead = child;
    for (int i = 0; i < 1000 && dead.state != 'Z'; i++) {
        usleep(1000);
        assert_true(bh_proc_read(pid, &dead)); /* not reaped: still there */
    }
    assert_int_equal(dead.state, 'Z');
    assert_false(bh_proc_alive(pid, child.started));
    assert_true(bh_proc_wait(pid, child.started, 0)); /* reaps */
    assert_false(bh_proc_read(pid, &dead));
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(sees_who_listens),
        cmocka_unit_test(knows_processes_by_start),
        cmocka_unit_test(zombies_are_dead),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
