/*
 * routes.h - the handlers, one family of routes per source: kv.c, list.c, admin.c, page.c.
 *
 * Threads:   constant.
 * Ownership: static.
 * Errors:    a handler notes failures in its request.
 */
#ifndef API_ROUTES_H
#define API_ROUTES_H

#include "api/request.h"

extern const struct handler kv_get;
extern const struct handler kv_put;
extern const struct handler kv_delete;

extern const struct handler list_get;

extern const struct handler admin_stats;
extern const struct handler admin_flush;
extern const struct handler admin_compact;
extern const struct handler admin_version;
extern const struct handler admin_openapi;

extern const struct handler page_get;
extern const struct handler page_readyz;

/* OPTIONS, on every route. */
extern const struct handler options_any;

#endif
