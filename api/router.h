/*
 * router.h - which handler answers which path and method.
 *
 * Paths are compared as raw bytes: a route has exactly one spelling.
 *
 * Threads:   any thread; the table is constant.
 * Ownership: everything is static.
 * Errors:    none; a path that leads nowhere is a result.
 */
#ifndef API_ROUTER_H
#define API_ROUTER_H

#include "api/key.h"
#include "api/request.h"

/* Room for the longest list of methods. */
#define ALLOW_SIZE 48

/* The route of a path, NULL if there is none. *ret_rest is what follows a prefix. */
const struct route *router_find(struct span path, struct span *ret_rest);

enum api_method router_method(const char *method);

/* The handler of a method, NULL where the route doesn't have it. HEAD is answered as GET. */
const struct handler *router_handler(const struct route *route, enum api_method method);

/* Writes the methods of a route as an Allow field; those of all routes for NULL ("*"). */
void router_allow(const struct route *route, char out[ALLOW_SIZE]);

#endif
