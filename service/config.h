/*
 * config.h - what `varve serve` was told: its option table and the typed values.
 *
 * Threads:   filled before start, read-only from then on.
 * Ownership: texts are borrowed from argv and the environment; options_release() with
 *            config_options frees the lists.
 * Errors:    a sentence that names the option (options.h).
 */
#ifndef SERVICE_CONFIG_H
#define SERVICE_CONFIG_H

#include <stdbool.h>
#include <stdint.h>

#include "service/log.h"
#include "service/options.h"
#include "service/values.h"

/* What to do once the log can't be written: in the order of the option's choices. */
enum on_log_failure { ON_LOG_FAILURE_READ_ONLY, ON_LOG_FAILURE_EXIT };

struct config {
    struct address listen;
    struct option_list host_names; /* names under which requests may address this server */
    bool no_auth;

    const char *data_dir;
    uint64_t memtable_bytes;
    uint64_t max_value_bytes;
    uint64_t max_inflight_bytes;
    uint64_t compaction_bytes_per_s; /* 0: unlimited */
    uint64_t scrub_bytes_per_s;      /* 0: no scrubbing */
    enum on_log_failure on_log_failure;

    uint64_t threads; /* HTTP threads, at least 1 */
    uint64_t connections;
    uint64_t header_timeout_ms;
    uint64_t idle_timeout_ms;

    uint64_t drain_delay_ms;
    uint64_t drain_timeout_ms;

    enum log_level log_level;
    enum log_format log_format;
};

/* The table of `varve serve`; fills a struct config. */
extern const struct option_table config_options;

#endif
