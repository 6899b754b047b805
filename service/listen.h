/*
 * listen.h - sockets that share one port.
 *
 * Threads:   before start.
 * Ownership: descriptors belong to the caller.
 * Errors:    the detail has the address and the reason.
 */
#ifndef SERVICE_LISTEN_H
#define SERVICE_LISTEN_H

#include "service/values.h"
#include "store/base/err.h"

/* Opens `n` listening sockets, non-blocking, on one address; the kernel spreads connections over
 * them. With port 0 the first one gets a port from the kernel, and *address says which.
 * ERR_EXISTS: the address is in use, also by a server that shares ports itself. ERR_INVALID: it
 * is no address of this machine. ERR_IO: others. On failure nothing is open. */
MUST_USE enum err listen_open(struct address *address, unsigned n, int ret_fds[],
                              struct err_detail *detail);

#endif
