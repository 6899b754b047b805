/*
 * loop.h - a thread that serves HTTP: a libmicrohttpd daemon, polled by us.
 *
 * libmicrohttpd's own thread can be told of one resumed connection at a time, by a system call
 * each. A group of writes that became durable together is answered with one wake-up here: who
 * resumes puts the connection on a stack, and only who finds the thread asleep wakes it; it resumes
 * all of them by itself.
 *
 * Threads:   loop_resume(): any; the others: the one that starts and stops. All callbacks of the
 *            daemon run on the loop's thread.
 * Ownership: the daemon is the loop's from loop_start() on; an item is the caller's, and lent from
 *            loop_resume() until its connection goes on.
 * Errors:    err.h.
 */
#ifndef SERVICE_LOOP_H
#define SERVICE_LOOP_H

#include <microhttpd.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>

#include "store/base/err.h"

/* A connection that is to go on. */
struct loop_item {
    struct loop_item *next;
    struct MHD_Connection *connection;
};

struct loop {
    struct MHD_Daemon *daemon;
    pthread_t thread;
    int set_fd;  /* the daemon's epoll set */
    int wake_fd; /* eventfd in there, which the daemon ignores */
    _Atomic(struct loop_item *) resumed;
    _Atomic bool asleep;    /* in the daemon's poll, or about to be */
    _Atomic unsigned asked; /* enum loop_request */
};

/* Makes the thread. `daemon` was started with MHD_USE_EPOLL, MHD_ALLOW_SUSPEND_RESUME and no
 * thread of its own. ERR_NO_MEMORY: there is no thread or descriptor to be had (errno says which),
 * and the daemon is still the caller's. */
MUST_USE enum err loop_start(struct loop *loop, struct MHD_Daemon *daemon);

/* Lets a suspended connection go on. The caller touches neither afterwards. */
void loop_resume(struct loop *loop, struct loop_item *item);

/* Accepting ends before the thread polls again; the listening socket stays open. Doesn't wait for
 * that: the thread may be held up by a disk. */
void loop_quiesce(struct loop *loop);

/* Ends the thread and the daemon, and closes the daemon's connections. None may be suspended, but
 * for those given to loop_resume(). */
void loop_stop(struct loop *loop);

#endif
