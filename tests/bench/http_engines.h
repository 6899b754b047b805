/*
 * http_engines.h - servers behind the same functions as engines: varve, Redis behind webdis, and
 * etcd's JSON gateway.
 *
 * The place to open is a URL such as http://127.0.0.1:7070. A session is a keep-alive connection of
 * its own that waits for each answer. Whether a put is on disk when it is answered is how the
 * server was started; `synced` is left to it. Scans list keys: varve's lists have no values, and
 * etcd is asked for none; webdis has no order to scan in. Any answer but success ends the program.
 *
 * Threads, ownership, errors: as in engines.h.
 */
#ifndef VARVE_TESTS_BENCH_HTTP_ENGINES_H
#define VARVE_TESTS_BENCH_HTTP_ENGINES_H

#include "tests/bench/engines.h"

extern const struct engine http_varve;
extern const struct engine http_webdis;
extern const struct engine http_etcd;

#endif
