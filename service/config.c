/* config.c - the options of `varve serve`, and what must hold between them. */
#include "service/config.h"

#include <ctype.h>
#include <inttypes.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>

#include "store/store.h"

#define KIB       (UINT64_C(1) << 10)
#define MIB       (UINT64_C(1) << 20)
#define GIB       (UINT64_C(1) << 30)
#define MINUTE_MS UINT64_C(60000)

/* What a write needs in flight beside its value, at most: key, texts, headers, checksums of the
 * largest value that may be asked for. */
#define WRITE_OVERHEAD_BYTES (256 * KIB)

#define NUMBER(member) .offset = OPTION_MEMBER(struct config, member, uint64_t)

static const char *const on_log_failure_names[] = {"read-only", "exit", NULL};

static const struct option_spec specs[] = {
    {
        .name = "listen",
        .group = "Network",
        .kind = OPTION_ADDRESS,
        .offset = OPTION_MEMBER(struct config, listen, struct address),
        .value = "ADDRESS:PORT",
        .fallback = "127.0.0.1:7070",
        .text = "Where to listen. Port 0 lets the system choose; the log names the one it chose.",
    },
    {
        .name = "no-auth",
        .group = "Network",
        .kind = OPTION_FLAG,
        .offset = OPTION_MEMBER(struct config, no_auth, bool),
        .text = "Serve whoever reaches the address, without asking who it is. Needed to listen "
                "on an address that is not a loopback address.",
    },
    {
        .name = "host-name",
        .group = "Network",
        .kind = OPTION_LIST,
        .offset = OPTION_MEMBER(struct config, host_names, struct option_list),
        .value = "NAME",
        .text = "Answer requests whose Host header has this name too. On a loopback address only "
                "localhost and loopback addresses are answered otherwise, so that no web page "
                "can drive a local store.",
    },
    {
        .name = "threads",
        .group = "Network",
        .kind = OPTION_COUNT,
        NUMBER(threads),
        .value = "N",
        .fallback_note = "one per core",
        .min = 1,
        .max = 256,
        .text = "Threads that serve HTTP.",
    },
    {
        .name = "connections",
        .group = "Network",
        .kind = OPTION_COUNT,
        NUMBER(connections),
        .value = "N",
        .fallback = "4096",
        .min = 1,
        .max = 1000000,
        .text =
            "Most connections at a time; further ones get 503 and are closed, but for probes and "
            "metrics, which are answered.",
    },
    {
        .name = "header-timeout",
        .group = "Network",
        .kind = OPTION_DURATION,
        NUMBER(header_timeout_ms),
        .value = "TIME",
        .fallback = "10s",
        .min = 100,
        .max = 60 * MINUTE_MS,
        .text = "How long a client may take to send the headers of a request.",
    },
    {
        .name = "idle-timeout",
        .group = "Network",
        .kind = OPTION_DURATION,
        NUMBER(idle_timeout_ms),
        .value = "TIME",
        .fallback = "75s",
        .min = 1000,
        .max = 60 * MINUTE_MS,
        .text = "How long a connection may stay open without a request. Keep it above that of a "
                "proxy in front, which is often 60s.",
    },
    {
        .name = "data-dir",
        .group = "Storage",
        .kind = OPTION_TEXT,
        .offset = OPTION_MEMBER(struct config, data_dir, const char *),
        .value = "DIR",
        .fallback = "./data",
        .text = "Where the data is. Created if it doesn't exist; else empty or a store; used by "
                "one server at a time.",
    },
    {
        .name = "memtable-bytes",
        .group = "Storage",
        .kind = OPTION_SIZE,
        NUMBER(memtable_bytes),
        .value = "SIZE",
        .fallback = "64MiB",
        .min = 64 * KIB,
        .max = 8 * GIB,
        .text = "Writes collected in memory, and in one log segment, before they become a table.",
    },
    {
        .name = "max-value-bytes",
        .group = "Storage",
        .kind = OPTION_SIZE,
        NUMBER(max_value_bytes),
        .value = "SIZE",
        .fallback = "16MiB",
        .min = 1,
        .max = STORE_VALUE_LIMIT_BYTES,
        .text = "Most bytes of one value; larger ones get 413.",
    },
    {
        .name = "max-inflight-bytes",
        .group = "Storage",
        .kind = OPTION_SIZE,
        NUMBER(max_inflight_bytes),
        .value = "SIZE",
        .fallback = "64MiB",
        .min = 512 * KIB,
        .max = 4 * GIB,
        .text = "Most bytes of writes that were received and not yet synced. Beyond it writes "
                "wait, and get 503 after 10s. At least 256KiB more than --max-value-bytes.",
    },
    {
        .name = "compaction-rate",
        .group = "Storage",
        .kind = OPTION_SIZE,
        NUMBER(compaction_bytes_per_s),
        .value = "SIZE",
        .fallback = "0",
        .min = 64 * KIB,
        .zero_note = "unlimited",
        .text = "Most bytes that compaction reads and writes per second.",
    },
    {
        .name = "scrub-rate",
        .group = "Storage",
        .kind = OPTION_SIZE,
        NUMBER(scrub_bytes_per_s),
        .value = "SIZE",
        .fallback = "2MiB",
        .min = 4 * KIB,
        .zero_note = "never",
        .text = "Bytes of tables that are read and verified per second in the background, all of "
                "them again and again, so that a disk that loses data is noticed early.",
    },
    {
        .name = "on-log-failure",
        .group = "Storage",
        .kind = OPTION_CHOICE,
        .offset = OPTION_ENUM_MEMBER(struct config, on_log_failure),
        .choices = on_log_failure_names,
        .fallback = "read-only",
        .text = "What to do when the write-ahead log can't be written or synced: go on serving "
                "reads, or answer what is under way and exit with status 1, where something will "
                "start the server again.",
    },
    {
        .name = "drain-delay",
        .group = "Shutdown",
        .kind = OPTION_DURATION,
        NUMBER(drain_delay_ms),
        .value = "TIME",
        .fallback = "0s",
        .max = 60 * MINUTE_MS,
        .text = "After SIGTERM or SIGINT, how long new connections are still served while "
                "/readyz already says 503: what a load balancer needs to notice.",
    },
    {
        .name = "drain-timeout",
        .group = "Shutdown",
        .kind = OPTION_DURATION,
        NUMBER(drain_timeout_ms),
        .value = "TIME",
        .fallback = "25s",
        .min = 100,
        .max = 60 * MINUTE_MS,
        .text = "How long requests in progress may take after that. A second signal stops at once.",
    },
    {
        .name = "log-level",
        .group = "Log",
        .kind = OPTION_CHOICE,
        .offset = OPTION_ENUM_MEMBER(struct config, log_level),
        .choices = log_level_names,
        .fallback = "info",
        .text = "Which events to write to standard error: these and the more serious ones.",
    },
    {
        .name = "log-format",
        .group = "Log",
        .kind = OPTION_CHOICE,
        .offset = OPTION_ENUM_MEMBER(struct config, log_format),
        .choices = log_format_names,
        .fallback = "text",
        .text = "One event a line: key=value, or a JSON object.",
    },
};

/* Cores that this process may run on: a container is often given fewer than there are. */
static uint64_t core_count(void)
{
    cpu_set_t set;
    int n = sched_getaffinity(0, sizeof(set), &set) == 0 ? CPU_COUNT(&set) : 1;

    return n > 0 ? (uint64_t)n : 1;
}

/* A Host header is compared without its port: with one, or with a blank, none would ever match. */
static bool is_host_name(const char *name)
{
    static const char letters[] =
        "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-._";
    size_t size = strlen(name);

    if (size > 2 && name[0] == '[' && name[size - 1] == ']') {
        return strspn(name + 1, "0123456789abcdefABCDEF:.") == size - 2;
    }
    return size > 0 && strspn(name, letters) == size;
}

static bool host_names_are_names(const struct config *config, struct err_detail *why)
{
    for (size_t i = 0; i < config->host_names.count; i++) {
        const char *name = config->host_names.items[i];
        if (!is_host_name(name)) {
            char shown[81];
            (void)snprintf(shown, sizeof(shown), "%s", name);
            for (char *p = shown; *p; p++)
                *p = iscntrl((unsigned char)*p) ? '?' : *p;
            err_detail_set(
                why, "--host-name takes a name without a port, such as store.example; not \"%s\"",
                shown);
            return false;
        }
    }
    return true;
}

static bool complete(void *target, struct err_detail *why)
{
    struct config *config = target;
    char a[VALUE_TEXT_BYTES];
    char b[VALUE_TEXT_BYTES];
    char address[ADDRESS_TEXT_BYTES];

    if (!address_is_loopback(&config->listen) && !config->no_auth) {
        address_format(&config->listen, address);
        err_detail_set(why,
                       "--listen %s can be reached from other machines, by anyone; add --no-auth "
                       "if that is what you want",
                       address);
        return false;
    }
    if (!host_names_are_names(config, why)) {
        return false;
    }
    if (config->max_value_bytes + WRITE_OVERHEAD_BYTES > config->max_inflight_bytes) {
        size_format(config->max_value_bytes, a);
        size_format(config->max_inflight_bytes, b);
        err_detail_set(why,
                       "--max-inflight-bytes %s must be at least 256KiB more than "
                       "--max-value-bytes %s",
                       b, a);
        return false;
    }
    if (config->threads > config->connections) {
        err_detail_set(why,
                       "--connections %" PRIu64 " must not be less than --threads %" PRIu64
                       ": each thread serves some of them",
                       config->connections, config->threads);
        return false;
    }
    if (config->threads == 0) {
        uint64_t cores = core_count();

        config->threads = cores < config->connections ? cores : config->connections;
        config->threads = config->threads < 256 ? config->threads : 256;
    }
    return true;
}

const struct option_table config_options = {
    .command = "serve",
    .summary = "Run the server, in the foreground, until SIGTERM or SIGINT.",
    .details = "Exit status: 0 stopped as asked, 1 failed, 2 called wrongly.",
    .specs = specs,
    .count = sizeof(specs) / sizeof(specs[0]),
    .complete = complete,
};
