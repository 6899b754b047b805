/* strace beside a server. */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tests/http/support.h"
#include "tests/support/check.h"

bool strace_works(void)
{
    return system("strace -V >/dev/null 2>&1 && strace -o /dev/null true") == 0;
}

pid_t strace_server(const struct server *server, const char *what)
{
    char pid[16];
    (void)snprintf(pid, sizeof pid, "%d", (int)server_pid(server));
    pid_t tracer = fork();
    if (tracer == 0) {
        execlp("strace", "strace", "-f", "-qq", "-o", "/dev/null", "-e", what, "-p", pid,
               (char *)NULL);
        _exit(127);
    }
    assert_true(tracer > 0);
    return tracer;
}

void strace_stop(pid_t tracer)
{
    kill(tracer, SIGINT);
    assert_int_equal(waitpid(tracer, NULL, 0), tracer);
}
