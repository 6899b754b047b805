/*
 * serve.c - `varve serve`: start, run, drain, exit.
 *
 * DESIGN. The main thread starts everything and then only waits: for signals, and for a wake-up
 * from the threads that do the work. What happened is in `struct serve`; the main thread alone
 * decides what follows from it.
 *
 *   starting   the port is open, probes answer, everything else is 503 "recovering"
 *   running    the store is open
 *   draining   SIGTERM or SIGINT came: /readyz is 503, answers close their connections; after
 *              --drain-delay no connection is accepted, requests under way complete, and then
 *              the memtable is written to a table
 *
 * Where --on-log-failure says exit, a log or manifest that can't be written is such a request to
 * stop too, with little time and with status 1: what is under way gets its answer first.
 *
 * SIGHUP, SIGUSR1 and SIGUSR2 end nothing: what rotates logs or reloads services may send them.
 *
 * Whatever takes too long is left behind: every acknowledged write is in the log. So a second
 * signal, and a signal while the log is still being replayed, simply end the process.
 */
#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <semaphore.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/signalfd.h>
#include <time.h>
#include <unistd.h>

#include "api/api.h"
#include "service/build_info.h"
#include "service/clock.h"
#include "service/command.h"
#include "service/config.h"
#include "service/http.h"
#include "service/log.h"
#include "service/metrics.h"
#include "service/probes.h"
#include "store/store.h"

/* Descriptors of the store and the daemons, beside connections. */
enum { OTHER_DESCRIPTORS = 512 };

/* How often a wait for connections to end looks for a second signal. */
enum { DRAIN_LOOK_MS = 50 };

/* Between two waits of the main thread that failed. */
enum { POLL_AGAIN_NS = 100000000 };

/* How long requests under way may take once the log has failed: writes end at once, and a process
 * that takes none had better make room for its successor than wait for the slowest reader. */
enum { LOG_FAILED_DRAIN_MS = 3000 };

enum store_phase { STORE_OPENING, STORE_OPEN, STORE_OPEN_FAILED, STORE_CLOSED };

struct serve {
    const struct config *config;
    struct api *api;
    struct metrics *metrics;
    struct http_server *server;
    struct probes probes;

    int signals; /* signalfd of SIGTERM, SIGINT and SIGHUP */
    int wake;    /* eventfd, written when one of the following changed */
    _Atomic enum store_phase store_phase;
    _Atomic bool log_failed;

    pthread_t store_thread;
    sem_t close_store;
    struct store *store;       /* valid in STORE_OPEN */
    struct err_detail failure; /* valid in STORE_OPEN_FAILED */
};

static void wake_main(struct serve *serve)
{
    (void)!write(serve->wake, &(uint64_t){1}, sizeof(uint64_t));
}

/* --- The store, on its threads --- */

static const struct {
    enum log_level level;
    const char *name;
} event_lines[] = {
    [STORE_EVENT_RECOVERED] = {LOG_INFO, "recovered"},
    [STORE_EVENT_TORN_TAIL] = {LOG_WARN, "torn_tail"},
    [STORE_EVENT_CORRUPTION] = {LOG_ERROR, "corruption"},
    [STORE_EVENT_TABLE_DAMAGED] = {LOG_ERROR, "table_damaged"},
    [STORE_EVENT_LOG_POISONED] = {LOG_ERROR, "log_poisoned"},
    [STORE_EVENT_MANIFEST_FAILED] = {LOG_ERROR, "manifest_failed"},
    [STORE_EVENT_NO_SPACE] = {LOG_ERROR, "no_space"},
    [STORE_EVENT_SPACE_BACK] = {LOG_INFO, "space_back"},
    [STORE_EVENT_FLUSHED] = {LOG_DEBUG, "flushed"},
    [STORE_EVENT_COMPACTED] = {LOG_DEBUG, "compacted"},
    [STORE_EVENT_BACKGROUND_FAILED] = {LOG_ERROR, "background_failed"},
    [STORE_EVENT_NUMBERS_USED_UP] = {LOG_ERROR, "numbers_used_up"},
};

static void on_store_event(void *arg, const struct store_event *event)
{
    struct serve *serve = arg;
    log_event(event_lines[event->kind].level, event_lines[event->kind].name,
              log_text("detail", event->text));
    if (event->keys[0] != '\0') {
        log_event(LOG_DEBUG, "damaged_keys", log_text("keys", event->keys));
    }
    if (event->kind == STORE_EVENT_LOG_POISONED || event->kind == STORE_EVENT_MANIFEST_FAILED) {
        atomic_store(&serve->log_failed, true);
        wake_main(serve);
    }
}

static void on_recovery_progress(void *arg, uint64_t done_bytes, uint64_t total_bytes)
{
    struct serve *serve = arg;
    atomic_store(&serve->probes.recovery_total_bytes, total_bytes);
    atomic_store(&serve->probes.recovered_bytes, done_bytes);
}

static void *open_and_close_store(void *arg)
{
    struct serve *serve = arg;
    const struct config *config = serve->config;
    struct store_options options = store_options_default();
    options.dir = config->data_dir;
    options.memtable_bytes = config->memtable_bytes;
    options.max_value_bytes = config->max_value_bytes;
    options.max_inflight_bytes = config->max_inflight_bytes;
    options.compaction_rate = config->compaction_bytes_per_s;
    options.scrub_rate = config->scrub_bytes_per_s;
    options.on_event = on_store_event;
    options.on_progress = on_recovery_progress;
    options.arg = serve;
    pthread_setname_np(pthread_self(), "store-open");
    bool open = store_open(&options, &serve->store, &serve->failure) == ERR_OK;
    atomic_store(&serve->store_phase, open ? STORE_OPEN : STORE_OPEN_FAILED);
    wake_main(serve);
    if (open) {
        while (sem_wait(&serve->close_store) != 0) {
        }
        store_close(serve->store);
        atomic_store(&serve->store_phase, STORE_CLOSED);
        wake_main(serve);
    }
    return NULL;
}

/* --- The main thread --- */

/* The name of the signal that asks to stop; NULL where none came, or only SIGHUP: that asks to read
 * again what can change while we run, and there is no such file. */
static const char *take_stop_signal(struct serve *serve)
{
    struct signalfd_siginfo info;
    while (read(serve->signals, &info, sizeof info) == sizeof info) {
        if (info.ssi_signo != SIGHUP) {
            return info.ssi_signo == SIGINT ? "SIGINT" : "SIGTERM";
        }
        log_event(LOG_INFO, "nothing_to_reload", log_text("reason", "SIGHUP"));
    }
    return NULL;
}

/* What a wait ended with; the first that applies. */
enum happening { SIGNALLED, WOKEN, TIMED_OUT };

/* Waits for a signal to stop or a wake-up until `until_ms`; UINT64_MAX: for ever. `*ret_signal` is
 * the signal's name on SIGNALLED. */
static enum happening await(struct serve *serve, uint64_t until_ms, const char **ret_signal)
{
    struct pollfd fds[] = {{.fd = serve->signals, .events = POLLIN},
                           {.fd = serve->wake, .events = POLLIN}};
    for (;;) {
        uint64_t now = clock_ms();
        uint64_t left = until_ms > now ? until_ms - now : 0;
        int timeout = left > INT32_MAX ? -1 : (int)left;
        int n = poll(fds, 2, timeout);
        bool failed = n < 0 && errno != EINTR;
        if ((n == 0 && timeout >= 0) || (failed && left == 0)) {
            return TIMED_OUT;
        }
        if (failed) { /* memory is short in the kernel: look all the same, but not all the time */
            (void)nanosleep(&(struct timespec){.tv_nsec = POLL_AGAIN_NS}, NULL);
        }
        if ((*ret_signal = take_stop_signal(serve)) != NULL) {
            return SIGNALLED;
        }
        uint64_t count;
        if (read(serve->wake, &count, sizeof count) == sizeof count) {
            return WOKEN;
        }
    }
}

/* Without the rest of the way out: nothing that was acknowledged is lost. */
static _Noreturn void leave_at_once(const char *reason, enum exit_status status)
{
    log_event(LOG_WARN, "stopped", log_bool("clean", false), log_text("reason", reason));
    _exit(status);
}

/* The first signal asked to stop, the second one means it. */
static void leave_if_signalled(struct serve *serve)
{
    const char *name = take_stop_signal(serve);
    if (name != NULL) {
        leave_at_once(name, STATUS_FAILED);
    }
}

static void wait_for_delay(struct serve *serve, uint64_t until_ms)
{
    const char *name;
    for (;;) {
        switch (await(serve, until_ms, &name)) {
        case SIGNALLED:
            leave_at_once(name, STATUS_FAILED);
        case TIMED_OUT:
            return;
        case WOKEN:
            break;
        }
    }
}

/* Lets requests complete until `patience_ms`, cuts connections then, and stops HTTP. False: a
 * request still waited for the store at `until_ms`. */
static bool stop_http(struct serve *serve, uint64_t patience_ms, uint64_t until_ms)
{
    bool cut = false;
    http_drain(serve->server);
    while (!http_wait_drained(serve->server, DRAIN_LOOK_MS)) {
        leave_if_signalled(serve);
        uint64_t now = clock_ms();
        if (!cut && now >= patience_ms) {
            cut = true;
            log_event(LOG_WARN, "drain_cut",
                      log_uint("connections", http_counts(serve->server).open));
            http_cut_all(serve->server);
        }
        if (now >= until_ms) {
            return false;
        }
    }
    atomic_store(&serve->probes.server, NULL);
    http_stop(serve->server);
    serve->server = NULL;
    return true;
}

static bool close_store(struct serve *serve, uint64_t until_ms)
{
    const char *name;
    sem_post(&serve->close_store);
    while (atomic_load(&serve->store_phase) != STORE_CLOSED) {
        switch (await(serve, until_ms, &name)) {
        case SIGNALLED:
            leave_at_once(name, STATUS_FAILED);
        case TIMED_OUT:
            return false;
        case WOKEN:
            break;
        }
    }
    pthread_join(serve->store_thread, NULL);
    return true;
}

/* From the request to stop to the end of everything that runs. */
static void drain(struct serve *serve, const char *reason, uint64_t delay_ms, uint64_t timeout_ms,
                  enum exit_status status)
{
    uint64_t began = clock_ms();
    uint64_t until = began + delay_ms + timeout_ms;
    atomic_store(&serve->probes.draining, true);
    api_set_draining(serve->api);
    /* After the fact: who reads this line may rely on it. */
    log_event(LOG_INFO, "draining", log_text("reason", reason), log_uint("delay_ms", delay_ms));
    if (delay_ms > 0) {
        wait_for_delay(serve, began + delay_ms);
    }
    /* A fifth of the time is kept for what comes after the last answer. */
    if (!stop_http(serve, until - timeout_ms / 5, until)) {
        leave_at_once("requests took longer than the drain timeout", status);
    }
    if (!close_store(serve, until)) {
        leave_at_once("writing the memtable took longer than the drain timeout", status);
    }
    log_event(LOG_INFO, "stopped", log_bool("clean", true),
              log_uint("drain_ms", clock_ms() - began));
}

static void announce_store(struct serve *serve)
{
    atomic_store(&serve->probes.store, serve->store);
    api_set_store(serve->api, serve->store);
    log_event(LOG_INFO, "ready", log_text("data_dir", serve->config->data_dir));
}

static void give_up_opening(struct serve *serve)
{
    log_event(LOG_ERROR, "open_failed", log_text("data_dir", serve->config->data_dir),
              log_text("error", serve->failure.text));
    pthread_join(serve->store_thread, NULL);
    uint64_t now = clock_ms();
    if (!stop_http(serve, now, now + serve->config->drain_timeout_ms)) {
        leave_at_once("open_failed", STATUS_FAILED);
    }
}

static uint64_t least(uint64_t a, uint64_t b)
{
    return a < b ? a : b;
}

static enum exit_status run(struct serve *serve)
{
    const struct config *config = serve->config;
    bool announced = false;
    for (;;) {
        const char *name;
        if (await(serve, UINT64_MAX, &name) == SIGNALLED) {
            if (!announced) {
                leave_at_once(name, STATUS_OK);
            }
            drain(serve, name, config->drain_delay_ms, config->drain_timeout_ms, STATUS_OK);
            return STATUS_OK;
        }
        enum store_phase phase = atomic_load(&serve->store_phase);
        if (phase == STORE_OPEN_FAILED) {
            give_up_opening(serve);
            return STATUS_FAILED;
        }
        if (phase == STORE_OPEN && !announced) {
            announced = true;
            announce_store(serve);
        }
        if (announced && atomic_load(&serve->log_failed) &&
            config->on_log_failure == ON_LOG_FAILURE_EXIT) {
            drain(serve, "log_failed", 0, least(config->drain_timeout_ms, LOG_FAILED_DRAIN_MS),
                  STATUS_FAILED);
            return STATUS_FAILED;
        }
    }
}

/* --- Start --- */

/* Before the first thread: all of them inherit the mask, and signals come as reads only. */
static bool take_signals(struct serve *serve)
{
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGTERM);
    sigaddset(&set, SIGINT);
    sigaddset(&set, SIGHUP);
    signal(SIGPIPE, SIG_IGN);
    signal(SIGUSR1, SIG_IGN);
    signal(SIGUSR2, SIG_IGN);
    serve->signals = -1;
    serve->wake = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (pthread_sigmask(SIG_BLOCK, &set, NULL) == 0) {
        serve->signals = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
    }
    return serve->signals >= 0 && serve->wake >= 0;
}

static struct api *make_api(struct serve *serve, const char *const *host_names)
{
    const struct config *config = serve->config;
    struct api_config api = api_config_default();
    api.version = build_info.version;
    api.max_value_bytes = config->max_value_bytes;
    api.policy.target_bytes_max = HTTP_TARGET_MAX_BYTES;
    api.policy.header_bytes_max = HTTP_HEADER_MAX_BYTES;
    api.policy.local_hosts_only = address_is_loopback(&config->listen);
    api.policy.host_names = host_names;
    api.hooks = (struct api_hooks){.arg = &serve->probes,
                                   .page = probes_page,
                                   .refuse = http_refuse,
                                   .resume = http_resume,
                                   .phase = http_phase,
                                   .finished = http_finished};
    return api_new(&api);
}

static enum err start_http(struct serve *serve, struct err_detail *detail)
{
    const struct config *config = serve->config;
    const struct http_options options = {
        .listen = config->listen,
        .threads = (unsigned)config->threads,
        .connections = (unsigned)config->connections,
        .header_timeout_ms = config->header_timeout_ms,
        .idle_timeout_ms = config->idle_timeout_ms,
        .other_descriptors = OTHER_DESCRIPTORS,
    };
    enum err err = http_start(&options, serve->api, serve->metrics, &serve->server, detail);
    if (err != ERR_OK) {
        return err;
    }
    atomic_store(&serve->probes.server, serve->server);
    char address[ADDRESS_TEXT_BYTES];
    const struct address listening = http_address(serve->server);
    address_format(&listening, address);
    log_event(LOG_INFO, "listening", log_text("addr", address),
              log_uint("threads", config->threads), log_uint("connections", config->connections));
    return ERR_OK;
}

/* Nothing runs yet when one of these fails. */
static bool prepare(struct serve *serve, const char *const *host_names)
{
    atomic_init(&serve->store_phase, STORE_OPENING);
    sem_init(&serve->close_store, 0, 0);
    if (!take_signals(serve)) {
        log_event(LOG_ERROR, "start_failed", log_text("error", strerror(errno)));
        return false;
    }
    serve->metrics = metrics_new((unsigned)serve->config->threads);
    serve->probes.metrics = serve->metrics;
    serve->api = serve->metrics != NULL ? make_api(serve, host_names) : NULL;
    if (serve->api == NULL) {
        log_event(LOG_ERROR, "start_failed", log_text("error", err_text(ERR_NO_MEMORY)));
        return false;
    }
    return true;
}

static enum exit_status start_and_run(struct serve *serve)
{
    struct err_detail detail;
    if (start_http(serve, &detail) != ERR_OK) {
        log_event(LOG_ERROR, "start_failed", log_text("error", detail.text));
        return STATUS_FAILED;
    }
    log_event(LOG_INFO, "recovering", log_text("data_dir", serve->config->data_dir));
    int error = pthread_create(&serve->store_thread, NULL, open_and_close_store, serve);
    if (error != 0) {
        leave_at_once(strerror(error), STATUS_FAILED);
    }
    return run(serve);
}

static enum exit_status serve_until_stopped(const struct config *config)
{
    struct serve serve = {.config = config};
    enum exit_status status = STATUS_FAILED;
    const char **host_names = calloc(config->host_names.count + 1, sizeof host_names[0]);
    if (host_names != NULL) {
        for (size_t i = 0; i < config->host_names.count; i++) {
            host_names[i] = config->host_names.items[i];
        }
        if (prepare(&serve, host_names)) {
            status = start_and_run(&serve);
        }
    }
    api_free(serve.api);
    metrics_free(serve.metrics);
    free(host_names);
    return status;
}

static int run_command(int argc, char *const argv[])
{
    struct config config = {0};
    struct operands operands;
    int status;
    if (!command_parse(&command_serve, argc, argv, &config, &operands, &status)) {
        return status;
    }
    log_configure(config.log_level, config.log_format, STDERR_FILENO);
    status = (int)serve_until_stopped(&config);
    options_release(&config_options, &config);
    return status;
}

const struct command command_serve = {.options = &config_options, .run = run_command};
