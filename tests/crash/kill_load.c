/* kill_load.c - the threads of clients. */
#include "tests/crash/kill_load.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/support/alloc.h"
#include "tests/support/random.h"

enum { WRITERS = 6, READERS = 4 };

struct worker {
    pthread_t thread;
    struct load *load;
    size_t index;
    struct client *client;
    struct prng prng;
};

struct load {
    struct journal *journal;
    size_t n_keys;
    struct worker workers[WRITERS + READERS];

    pthread_mutex_t lock; /* of what follows */
    pthread_cond_t changed;
    uint64_t sent;
    unsigned ended;
};

static void count_sent(struct load *load)
{
    pthread_mutex_lock(&load->lock);
    load->sent++;
    pthread_cond_signal(&load->changed);
    pthread_mutex_unlock(&load->lock);
}

/* --- Writers --- */

/* One kind of write, and what must come of it. */
struct intent {
    const char *method;
    const char *fields[2];
    char field[JOURNAL_TAG_BYTES + 32];
    unsigned status;
    bool chunked;
    const char *deleted; /* Varve-Deleted */
};

static void intend_put(struct intent *intent, bool present)
{
    *intent = (struct intent){.method = "PUT", .status = present ? 204 : 201};
}

static void intend_condition(struct intent *intent, const char *field, const char *value,
                             unsigned status)
{
    *intent = (struct intent){.method = "PUT", .status = status};
    (void)snprintf(intent->field, sizeof intent->field, "%s: %s", field, value);
    intent->fields[0] = intent->field;
}

static void choose(struct worker *worker, size_t key, struct intent *intent)
{
    char tag[JOURNAL_TAG_BYTES];
    bool present = journal_present(worker->load->journal, key, tag);
    uint64_t dice = prng_below(&worker->prng, 100);
    if (dice < 15) {
        *intent =
            (struct intent){.method = "DELETE", .status = 204, .deleted = present ? "1" : "0"};
    } else if (dice < 25) {
        intend_condition(intent, "If-None-Match", "*", present ? 412 : 201);
    } else if (dice < 35 && present) {
        intend_condition(intent, "If-Match", tag, 204);
    } else if (dice < 42) {
        intend_condition(intent, "If-Match", "\"no-such-tag\"", 412);
    } else {
        intend_put(intent, present);
        intent->chunked = dice < 47;
    }
}

static struct reply send_intent(struct worker *worker, size_t key, uint64_t version,
                                const struct intent *intent)
{
    char path[32];
    journal_path(key, path);
    if (strcmp(intent->method, "DELETE") == 0) {
        return client_send(worker->client, "DELETE", path, NULL, NULL, 0);
    }
    size_t size = journal_value_size(key, version);
    void *value = test_alloc(size);
    journal_fill(key, version, value);
    struct reply reply =
        intent->chunked
            ? client_send_chunked(worker->client, "PUT", path, intent->fields, value, size, 3000)
            : client_send(worker->client, "PUT", path, intent->fields, value, size);
    free(value);
    return reply;
}

static bool is_refused(const struct reply *reply, bool is_delete)
{
    return reply->status == 503 || (reply->status == 507 && !is_delete);
}

static bool is_unknown(const struct reply *reply)
{
    return reply->status == 500 && strstr(reply->body, "/problems/outcome-unknown") != NULL;
}

/* True while the server answers. */
static bool write_once(struct worker *worker)
{
    struct journal *journal = worker->load->journal;
    size_t key =
        worker->index + WRITERS * prng_below(&worker->prng, worker->load->n_keys / WRITERS);
    struct intent intent;
    choose(worker, key, &intent);
    bool effect = intent.status != 412;
    uint64_t version = journal_send(journal, key,
                                    !effect                  ? JOURNAL_NOTHING
                                    : intent.deleted != NULL ? JOURNAL_ABSENT
                                                             : JOURNAL_VALUE);
    count_sent(worker->load);
    struct reply reply = send_intent(worker, key, version, &intent);
    if (reply.status == 0) {
        reply_free(&reply);
        return false;
    }
    const char *deleted = reply_field(&reply, "Varve-Deleted");
    if (is_refused(&reply, intent.deleted != NULL)) {
        journal_refuse(journal, key, version);
    } else if (is_unknown(&reply)) {
        /* From now on every write is refused: the key keeps this one without an answer. */
    } else if (reply.status != intent.status ||
               (intent.deleted != NULL &&
                (deleted == NULL || strcmp(deleted, intent.deleted) != 0))) {
        journal_violation(journal, "key %zu: %s %s: wanted status %u, got %u: %s%s", key,
                          intent.method, intent.field, intent.status, reply.status, reply.head,
                          reply.body);
    } else if (effect) {
        journal_ack(journal, key, version, reply_field(&reply, "ETag"));
    } else {
        journal_refuse(journal, key, version);
    }
    reply_free(&reply);
    return true;
}

/* --- Readers --- */

static bool read_once(struct worker *worker)
{
    struct journal *journal = worker->load->journal;
    size_t key = prng_below(&worker->prng, worker->load->n_keys);
    uint64_t bound = journal_bound(journal, key);
    bool condition = prng_chance(&worker->prng, 25);
    char path[32];
    journal_path(key, path);
    struct reply reply = condition ? client_send(worker->client, "PUT", path,
                                                 FIELDS("If-Match: \"no-such-tag\""), "x", 1)
                                   : client_get(worker->client, path);
    bool answered = reply.status != 0;
    if (reply.status == 412 && condition) {
        journal_refusal_seen(journal, key, bound, &reply);
    } else if (answered && condition && !is_refused(&reply, false) && !is_unknown(&reply)) {
        journal_violation(journal, "key %zu: a condition that can't hold: status %u", key,
                          reply.status);
    } else if (answered && !condition) {
        journal_read(journal, key, bound, &reply);
    }
    reply_free(&reply);
    return answered;
}

static void *work(void *arg)
{
    struct worker *worker = arg;
    struct load *load = worker->load;
    bool goes_on = true;
    while (goes_on && journal_violated(load->journal) == NULL) {
        goes_on = worker->index < WRITERS ? write_once(worker) : read_once(worker);
    }
    pthread_mutex_lock(&load->lock);
    load->ended++;
    pthread_cond_signal(&load->changed);
    pthread_mutex_unlock(&load->lock);
    return NULL;
}

/* --- All of them --- */

struct load *load_start(struct journal *journal, size_t n_keys, const struct server *server,
                        uint64_t seed)
{
    struct load *load = test_alloc(sizeof *load);
    load->journal = journal;
    load->n_keys = n_keys;
    pthread_mutex_init(&load->lock, NULL);
    pthread_cond_init(&load->changed, NULL);
    for (size_t i = 0; i < WRITERS + READERS; i++) {
        struct worker *worker = &load->workers[i];
        worker->load = load;
        worker->index = i;
        worker->client = client_new(server);
        prng_init(&worker->prng, scramble64(seed) + i);
        if (pthread_create(&worker->thread, NULL, work, worker) != 0) {
            abort();
        }
    }
    return load;
}

void load_wait_sent(struct load *load, uint64_t n)
{
    pthread_mutex_lock(&load->lock);
    while (load->sent < n && load->ended == 0) {
        pthread_cond_wait(&load->changed, &load->lock);
    }
    pthread_mutex_unlock(&load->lock);
}

uint64_t load_sent(struct load *load)
{
    pthread_mutex_lock(&load->lock);
    uint64_t sent = load->sent;
    pthread_mutex_unlock(&load->lock);
    return sent;
}

void load_check_all(struct journal *journal, size_t n_keys, struct client *client, bool first)
{
    for (size_t key = 0; key < n_keys; key++) {
        char path[32];
        journal_path(key, path);
        uint64_t bound = journal_bound(journal, key);
        struct reply reply = client_get(client, path);
        if (first) {
            journal_recover(journal, key, &reply);
        } else {
            journal_read(journal, key, bound, &reply);
        }
        journal_unchanged(journal, key, reply_field(&reply, "ETag"),
                          reply.status == 200 ? reply.size : SIZE_MAX);
        reply_free(&reply);
    }
}

void load_join(struct load *load)
{
    for (size_t i = 0; i < WRITERS + READERS; i++) {
        pthread_join(load->workers[i].thread, NULL);
        client_free(load->workers[i].client);
    }
    pthread_cond_destroy(&load->changed);
    pthread_mutex_destroy(&load->lock);
    free(load);
}
