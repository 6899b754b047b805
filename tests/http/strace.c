/* strace beside a server. */
#include <dirent.h>
#include <sched.h>
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

/* The tracer of a thread, 0: none; also where it has ended. */
static int tracer_of(const char *path)
{
    char line[256];
    int tracer = 0;
    FILE *file = fopen(path, "r");
    while (file != NULL && fgets(line, sizeof line, file) != NULL) {
        (void)sscanf(line, "TracerPid: %d", &tracer);
    }
    if (file != NULL) {
        fclose(file);
    }
    return tracer;
}

static bool all_are_traced(const char *tasks)
{
    char path[400];
    bool all = true;
    DIR *names = opendir(tasks);
    assert_non_null(names);
    for (struct dirent *name = readdir(names); name != NULL; name = readdir(names)) {
        if (name->d_name[0] != '.') {
            (void)snprintf(path, sizeof path, "%s/%s/status", tasks, name->d_name);
            all = all && tracer_of(path) != 0;
        }
    }
    closedir(names);
    return all;
}

void strace_wait_attached(const struct server *server)
{
    char tasks[64];
    (void)snprintf(tasks, sizeof tasks, "/proc/%d/task", (int)server_pid(server));
    while (!all_are_traced(tasks)) {
        sched_yield();
    }
}

void strace_stop(pid_t tracer)
{
    kill(tracer, SIGINT);
    assert_int_equal(waitpid(tracer, NULL, 0), tracer);
}
