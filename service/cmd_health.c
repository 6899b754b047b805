/* cmd_health.c - `varve health`: asks a running server how it is. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "service/client.h"
#include "service/clock.h"
#include "service/command.h"

enum { REQUEST_MS = 5000, PAUSE_MS = 100 };

struct arguments {
    const char *url;
    uint64_t wait_ms;
};

static const struct option_spec specs[] = {
    {
        .name = "url",
        .group = "Server",
        .kind = OPTION_TEXT,
        .offset = OPTION_MEMBER(struct arguments, url, const char *),
        .value = "URL",
        .fallback = "http://127.0.0.1:7070",
        .text = "The server, or one of its probes; without a path it is /readyz.",
    },
    {
        .name = "wait",
        .group = "Server",
        .kind = OPTION_DURATION,
        .offset = OPTION_MEMBER(struct arguments, wait_ms, uint64_t),
        .value = "TIME",
        .fallback = "0",
        .max = UINT64_C(24) * 60 * 60 * 1000,
        .text = "How long to ask again and again until the answer is good.",
    },
};

static const struct option_table options = {
    .command = "health",
    .summary = "Ask a running server whether it is ready.",
    .details = "Exit status: 0 it is, 1 it is not, or it can't be reached, 2 called wrongly.",
    .specs = specs,
    .count = sizeof(specs) / sizeof(specs[0]),
};

/* `url` with a probe's path if it has none; free() it. NULL when out of memory. */
static char *probe_url(const char *url)
{
    const char *after_scheme = strstr(url, "://");
    const char *host = after_scheme != NULL ? after_scheme + 3 : url;
    const char *rest = host + strcspn(host, "/?#");
    char *result;
    if (rest[0] == '/' && rest[1] != '\0' && rest[1] != '?' && rest[1] != '#') {
        return strdup(url);
    }
    const char *query = rest[0] == '/' ? rest + 1 : rest;
    return asprintf(&result, "%.*s/readyz%s", (int)(rest - url), url, query) < 0 ? NULL : result;
}

/* Asks once; false with the reason. */
static bool ask(const char *url, uint64_t timeout_ms, struct client_answer *ret_answer,
                struct err_detail *why)
{
    if (client_get(url, timeout_ms, ret_answer, why) != ERR_OK) {
        return false;
    }
    if (ret_answer->status != 200) {
        err_detail_set(why, "status %u: %s", ret_answer->status, ret_answer->text);
        return false;
    }
    return true;
}

static int ask_until(const char *url, uint64_t wait_ms)
{
    uint64_t until = clock_ms() + wait_ms;
    struct client_answer answer;
    struct err_detail why;
    for (;;) {
        uint64_t now = clock_ms();
        uint64_t left = until > now ? until - now : 0;
        uint64_t timeout_ms = wait_ms > 0 && left < REQUEST_MS ? left + 1 : REQUEST_MS;
        if (ask(url, timeout_ms, &answer, &why)) {
            puts(answer.text);
            return STATUS_OK;
        }
        if (clock_ms() >= until) {
            fprintf(stderr, "varve health: %s: %s\n", url, why.text);
            return STATUS_FAILED;
        }
        nanosleep(&(struct timespec){.tv_nsec = PAUSE_MS * 1000000L}, NULL);
    }
}

static int run(int argc, char *const argv[])
{
    struct arguments arguments = {0};
    struct operands operands;
    int status;
    if (!command_parse(&command_health, argc, argv, &arguments, &operands, &status)) {
        return status;
    }
    char *url = probe_url(arguments.url);
    if (url == NULL) {
        fputs("varve health: out of memory\n", stderr);
        return STATUS_FAILED;
    }
    status = ask_until(url, arguments.wait_ms);
    free(url);
    options_release(&options, &arguments);
    return status;
}

const struct command command_health = {.options = &options, .run = run};
