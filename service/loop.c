#include "service/loop.h"

#include <errno.h>
#include <poll.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "service/log.h"

enum loop_request { LOOP_QUIESCE = 1, LOOP_STOP = 2 };

/* Before polling is tried again after it failed, which it doesn't as far as we know. */
enum { PAUSE_US = 100000 };

/* The loop whose thread this is. */
static _Thread_local const struct loop *own_loop;

static void wake(struct loop *loop)
{
    (void)!write(loop->wake_fd, &(uint64_t){1}, sizeof(uint64_t));
}

void loop_resume(struct loop *loop, struct loop_item *item)
{
    item->next = atomic_load_explicit(&loop->resumed, memory_order_relaxed);
    while (!atomic_compare_exchange_weak(&loop->resumed, &item->next, item)) {
    }
    /* Either the thread sees the item before it sleeps, or we see that it sleeps: then the first
     * of us wakes it. */
    if (own_loop != loop && atomic_load(&loop->asleep) && atomic_exchange(&loop->asleep, false)) {
        wake(loop);
    }
}

/* Returns whether there were any. Their order doesn't matter: libmicrohttpd goes by the order in
 * which they were suspended. */
static bool resume_all(struct loop *loop)
{
    struct loop_item *item = atomic_exchange_explicit(&loop->resumed, NULL, memory_order_acquire);
    bool some = item != NULL;
    while (item != NULL) {
        struct loop_item *next = item->next;
        MHD_resume_connection(item->connection);
        item = next;
    }
    return some;
}

/* libmicrohttpd takes so many events at a time. When it got exactly as many it asks for more before
 * it deals with those, and waits for as long as no more come. So where there can be as many, it is
 * us who wait, and it only looks. */
enum { EVENTS_MAX = 128 };

/* Our waiting ends after this: once there are descriptors again, it must put its listening socket
 * back into the set, and does so before it looks. */
enum { WAIT_MS = 200 };

static bool may_fill(const struct loop *loop)
{
    const union MHD_DaemonInfo *info =
        MHD_get_daemon_info(loop->daemon, MHD_DAEMON_INFO_CURRENT_CONNECTIONS);
    return info->num_connections + 2 >= EVENTS_MAX; /* two: to listen, to wake up */
}

/* False: waiting failed. */
static bool wait_for_events(struct loop *loop)
{
    struct pollfd set = {.fd = loop->set_fd, .events = POLLIN};
    MHD_UNSIGNED_LONG_LONG left;
    int timeout = WAIT_MS;
    if (MHD_get_timeout(loop->daemon, &left) == MHD_YES && left < WAIT_MS) {
        timeout = (int)left;
    }
    return timeout == 0 || poll(&set, 1, timeout) >= 0 || errno == EINTR;
}

static void poll_once(struct loop *loop, bool may_sleep)
{
    atomic_store(&loop->asleep, may_sleep);
    bool sleeps = may_sleep && atomic_load(&loop->resumed) == NULL;
    if (sleeps && may_fill(loop) && wait_for_events(loop)) {
        sleeps = false;
        atomic_store_explicit(&loop->asleep, false, memory_order_relaxed);
    }
    enum MHD_Result result = MHD_run_wait(loop->daemon, sleeps ? -1 : 0);
    atomic_store_explicit(&loop->asleep, false, memory_order_relaxed);
    if (result != MHD_YES) {
        log_event(LOG_ERROR, "http_poll_failed", log_text("error", strerror(errno)));
        usleep(PAUSE_US);
    }
}

static void *run(void *arg)
{
    struct loop *loop = arg;
    bool quiet = false;
    own_loop = loop;
    pthread_setname_np(pthread_self(), "http");
    for (;;) {
        unsigned asked = atomic_load(&loop->asked);
        if ((asked & LOOP_QUIESCE) != 0 && !quiet) {
            (void)MHD_quiesce_daemon(loop->daemon);
            quiet = true;
        }
        bool some = resume_all(loop);
        if ((asked & LOOP_STOP) != 0) {
            break;
        }
        poll_once(loop, !some);
    }
    MHD_stop_daemon(loop->daemon);
    return NULL;
}

/* libmicrohttpd skips events whose pointer is NULL. Edge-triggered, it needs no reading. */
static bool open_wake(struct loop *loop)
{
    struct epoll_event event = {.events = EPOLLIN | EPOLLET, .data.ptr = NULL};
    loop->set_fd = MHD_get_daemon_info(loop->daemon, MHD_DAEMON_INFO_EPOLL_FD)->epoll_fd;
    loop->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    return loop->wake_fd >= 0 && epoll_ctl(loop->set_fd, EPOLL_CTL_ADD, loop->wake_fd, &event) == 0;
}

static void loop_free(struct loop *loop)
{
    if (loop->wake_fd >= 0) {
        close(loop->wake_fd);
    }
}

enum err loop_start(struct loop *loop, struct MHD_Daemon *daemon)
{
    *loop = (struct loop){.daemon = daemon};
    if (open_wake(loop)) {
        errno = pthread_create(&loop->thread, NULL, run, loop);
        if (errno == 0) {
            return ERR_OK;
        }
    }
    loop_free(loop);
    return ERR_NO_MEMORY;
}

static void ask(struct loop *loop, enum loop_request request)
{
    atomic_fetch_or(&loop->asked, request);
    wake(loop);
}

void loop_quiesce(struct loop *loop)
{
    ask(loop, LOOP_QUIESCE);
}

void loop_stop(struct loop *loop)
{
    ask(loop, LOOP_STOP);
    pthread_join(loop->thread, NULL);
    loop_free(loop);
}
