/* linear_clients.c - one thread a client; what they share is under the crowd's lock. */
#include "tests/crash/linear_clients.h"

#include <inttypes.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <jansson.h>

#include "store/store.h"
#include "tests/support/alloc.h"
#include "tests/support/pattern.h"
#include "tests/support/random.h"

enum {
    NAME_BYTES = 32,
    FIELD_BYTES = 64,
    SMALL_BYTES = 200,
    LARGE_BYTES = 8000,
    TAGS_KEPT = 2, /* of each key: the last that anyone was told, and the one before */
};

struct worker {
    pthread_t thread;
    struct crowd *crowd;
    unsigned number;
    struct client *client;
    struct prng prng;
};

struct crowd {
    struct crowd_plan plan;
    struct linear_history *history;
    struct worker workers[CROWD_CLIENTS_MAX + 1]; /* the last is the test's thread */
    _Atomic unsigned upkeep;                      /* requests that were answered with 204 */
    _Atomic uint64_t epoch;                       /* of all tags; 0: none was told yet */

    pthread_mutex_t lock; /* of what follows */
    pthread_cond_t changed;
    uint64_t sent;
    unsigned ended;
    uint64_t tags[LINEAR_KEYS_MAX][TAGS_KEPT];
    char violation[1024];
};

static void violate(struct crowd *crowd, const char *what, const struct reply *reply)
{
    pthread_mutex_lock(&crowd->lock);
    if (crowd->violation[0] == '\0') {
        (void)snprintf(crowd->violation, sizeof crowd->violation, "%s: status %u\n%s%.300s", what,
                       reply->status, reply->head, reply->body);
    }
    pthread_mutex_unlock(&crowd->lock);
}

const char *crowd_violation(const struct crowd *crowd)
{
    return crowd->violation[0] != '\0' ? crowd->violation : NULL;
}

unsigned crowd_upkeep(const struct crowd *crowd)
{
    return atomic_load(&crowd->upkeep);
}

/* --- Names, values, tags --- */

static struct bytes key_name(const struct crowd *crowd, unsigned key, char text[NAME_BYTES])
{
    int size = snprintf(text, NAME_BYTES, "linear/%u/%u", crowd->plan.number, key);
    return bytes_of(text, (size_t)size);
}

static void key_path(const struct crowd *crowd, unsigned key, char ret_path[NAME_BYTES + 8])
{
    char name[NAME_BYTES];
    (void)key_name(crowd, key, name);
    (void)snprintf(ret_path, NAME_BYTES + 8, "/kv/%s", name);
}

static void remember_tag(struct crowd *crowd, unsigned key, uint64_t tag)
{
    pthread_mutex_lock(&crowd->lock);
    if (crowd->tags[key][0] != tag) {
        crowd->tags[key][1] = crowd->tags[key][0];
        crowd->tags[key][0] = tag;
    }
    pthread_mutex_unlock(&crowd->lock);
}

/* The number behind an ETag; 0 where there is none, or none of this store's. */
static uint64_t read_tag(struct crowd *crowd, unsigned key, const char *text)
{
    struct store_version version;
    size_t size = text != NULL ? strlen(text) : 0;
    if (size < 2 || text[0] != '"' || text[size - 1] != '"' ||
        !store_version_parse(bytes_of(text + 1, size - 2), &version)) {
        return 0;
    }
    uint64_t none = 0;
    if (!atomic_compare_exchange_strong(&crowd->epoch, &none, version.epoch) &&
        none != version.epoch) {
        return 0;
    }
    remember_tag(crowd, key, version.number);
    return version.number;
}

/* A tag for a condition; 0: none is known. */
static uint64_t draw_tag(struct worker *worker, unsigned key)
{
    struct crowd *crowd = worker->crowd;
    unsigned which = prng_chance(&worker->prng, 20) ? 1 : 0;
    pthread_mutex_lock(&crowd->lock);
    uint64_t tag = crowd->tags[key][which];
    pthread_mutex_unlock(&crowd->lock);
    return tag;
}

static void write_field(const struct crowd *crowd, const char *name, uint64_t tag,
                        char ret_field[FIELD_BYTES])
{
    char text[STORE_VERSION_TEXT_BYTES];
    (void)store_version_format((struct store_version){atomic_load(&crowd->epoch), tag}, text);
    (void)snprintf(ret_field, FIELD_BYTES, "%s: \"%s\"", name, text);
}

/* --- Requests --- */

/* The header field of the step's condition, "" for none. */
static void condition_field(const struct crowd *crowd, const struct linear_step *step,
                            char ret_field[FIELD_BYTES])
{
    ret_field[0] = '\0';
    switch (step->condition) {
    case LINEAR_ALWAYS:
        break;
    case LINEAR_IF_ABSENT:
        (void)snprintf(ret_field, FIELD_BYTES, "If-None-Match: *");
        break;
    case LINEAR_IF_PRESENT:
        (void)snprintf(ret_field, FIELD_BYTES, "If-Match: *");
        break;
    case LINEAR_IF_MATCH:
        write_field(crowd, "If-Match", step->tag, ret_field);
        break;
    }
}

static struct reply send_write(struct worker *worker, const struct linear_step *step)
{
    const struct crowd *crowd = worker->crowd;
    char name[NAME_BYTES], path[NAME_BYTES + 8], field[FIELD_BYTES];
    struct bytes key = key_name(crowd, step->key, name);
    key_path(crowd, step->key, path);
    condition_field(crowd, step, field);
    const char *fields[] = {field[0] != '\0' ? field : NULL, NULL};
    if (step->effect == LINEAR_DELETE) {
        return client_send(worker->client, "DELETE", path, fields, NULL, 0);
    }
    bool large = crowd->plan.large && prng_chance(&worker->prng, 60);
    size_t size = PATTERN_VERSION_BYTES +
                  (size_t)prng_below(&worker->prng, large ? LARGE_BYTES : SMALL_BYTES);
    void *value = test_alloc(size);
    pattern_fill(key, step->value, value, size);
    struct reply reply = client_send(worker->client, "PUT", path, fields, value, size);
    free(value);
    return reply;
}

/* Says in the step what the answer tells of the key; false if it is none that can be. */
static bool read_put(struct crowd *crowd, const struct reply *reply, struct linear_step *step)
{
    step->met = reply->status == 201 ? LINEAR_ABSENT : LINEAR_PRESENT;
    step->made_tag = read_tag(crowd, step->key, reply_field(reply, "ETag"));
    return (reply->status == 201 || reply->status == 204) && step->made_tag != 0;
}

static bool read_delete(const struct reply *reply, struct linear_step *step)
{
    const char *deleted = reply_field(reply, "Varve-Deleted");
    if (reply->status != 204 || deleted == NULL) {
        return false;
    }
    step->met = strcmp(deleted, "1") == 0 ? LINEAR_PRESENT : LINEAR_ABSENT;
    return strcmp(deleted, "1") == 0 || strcmp(deleted, "0") == 0;
}

/* 304 and 412 tell the tag of what is there. */
static void read_current(struct crowd *crowd, const struct reply *reply, struct linear_step *step)
{
    step->met_tag = read_tag(crowd, step->key, reply_field(reply, "ETag"));
    step->met = step->met_tag != 0 ? LINEAR_PRESENT : LINEAR_ABSENT;
}

static bool read_get(struct crowd *crowd, const struct reply *reply, struct linear_step *step)
{
    char name[NAME_BYTES];
    uint64_t value;
    if (reply->status == 404) {
        step->met = LINEAR_ABSENT;
        return true;
    }
    read_current(crowd, reply, step);
    if (reply->status == 304) {
        return step->met_tag != 0;
    }
    if (reply->status != 200 || step->met_tag == 0 ||
        !pattern_version(key_name(crowd, step->key, name), bytes_of(reply->body, reply->size),
                         &value)) {
        return false;
    }
    step->met_value = (uint32_t)value;
    return true;
}

/* --- One operation; false: the server doesn't answer any more --- */

static bool write_once(struct worker *worker, struct linear_step step)
{
    struct crowd *crowd = worker->crowd;
    if (step.effect == LINEAR_PUT) {
        step.value = linear_value(crowd->history);
    }
    size_t op = linear_call(crowd->history, worker->number, &step, 1);
    struct reply reply = send_write(worker, &step);
    bool answered = reply.status != 0;
    if (reply.status == 412) {
        read_current(crowd, &reply, &step);
        linear_failed(crowd->history, op, &step, 0);
    } else if (reply.status == 503) {
        linear_forget(crowd->history, op);
    } else if (answered && (step.effect == LINEAR_PUT ? read_put(crowd, &reply, &step)
                                                      : read_delete(&reply, &step))) {
        linear_done(crowd->history, op, &step);
    } else if (answered) {
        violate(crowd, "a write", &reply);
    }
    reply_free(&reply);
    return answered;
}

static bool read_once(struct worker *worker, unsigned key, uint64_t unless_tag)
{
    struct crowd *crowd = worker->crowd;
    struct linear_step step = {.key = key};
    char path[NAME_BYTES + 8], field[FIELD_BYTES];
    key_path(crowd, key, path);
    write_field(crowd, "If-None-Match", unless_tag, field);
    size_t op = linear_call(crowd->history, worker->number, &step, 1);
    struct reply reply =
        client_send(worker->client, "GET", path, unless_tag != 0 ? FIELDS(field) : NULL, NULL, 0);
    bool answered = reply.status != 0;
    if (!answered || reply.status == 503) {
        linear_forget(crowd->history, op);
    } else if (read_get(crowd, &reply, &step)) {
        linear_done(crowd->history, op, &step);
    } else {
        violate(crowd, "a GET", &reply);
    }
    reply_free(&reply);
    return answered;
}

/* Fills the steps in from a page that has them all. */
static bool read_page(struct crowd *crowd, const struct reply *reply, struct linear_step steps[])
{
    json_t *page = json_loadb(reply->body, reply->size, JSON_REJECT_DUPLICATES, NULL);
    json_t *keys = json_object_get(page, "keys");
    bool good = reply->status == 200 && json_is_array(keys);
    for (unsigned key = 0; key < crowd->plan.keys; key++) {
        steps[key].met = LINEAR_ABSENT;
    }
    for (size_t i = 0; good && i < json_array_size(keys); i++) {
        const json_t *entry = json_array_get(keys, i);
        const char *name = json_string_value(json_object_get(entry, "key"));
        const char *number = name != NULL ? strrchr(name, '/') : NULL;
        size_t key = number != NULL ? strtoull(number + 1, NULL, 10) : SIZE_MAX;
        good = key < crowd->plan.keys && steps[key].met == LINEAR_ABSENT;
        if (good) {
            steps[key].met = LINEAR_PRESENT;
            steps[key].met_tag =
                read_tag(crowd, (unsigned)key, json_string_value(json_object_get(entry, "etag")));
            good = steps[key].met_tag != 0;
        }
    }
    json_decref(page);
    return good;
}

static bool list_once(struct worker *worker)
{
    struct crowd *crowd = worker->crowd;
    struct linear_step steps[LINEAR_KEYS_MAX] = {0};
    char path[64];
    (void)snprintf(path, sizeof path, "/kv?prefix=linear/%u/", crowd->plan.number);
    for (unsigned key = 0; key < crowd->plan.keys; key++) {
        steps[key].key = key;
    }
    size_t op = linear_call(crowd->history, worker->number, steps, crowd->plan.keys);
    struct reply reply = client_get(worker->client, path);
    bool answered = reply.status != 0;
    if (!answered || reply.status == 503) {
        linear_forget(crowd->history, op);
    } else if (read_page(crowd, &reply, steps)) {
        linear_done(crowd->history, op, steps);
    } else {
        violate(crowd, "a list", &reply);
    }
    reply_free(&reply);
    return answered;
}

static bool maintain(struct worker *worker)
{
    const char *path = prng_chance(&worker->prng, 75) ? "/admin/flush" : "/admin/compact";
    struct reply reply = client_send(worker->client, "POST", path, NULL, "", 0);
    bool answered = reply.status != 0;
    if (reply.status == 204) {
        atomic_fetch_add(&worker->crowd->upkeep, 1);
    } else if (answered && reply.status != 503) {
        violate(worker->crowd, path, &reply);
    }
    reply_free(&reply);
    return answered;
}

/* --- Clients --- */

static bool act(struct worker *worker)
{
    const struct crowd_plan *plan = &worker->crowd->plan;
    unsigned key = (unsigned)prng_below(&worker->prng, plan->keys);
    uint64_t tag = draw_tag(worker, key);
    uint64_t dice = prng_below(&worker->prng, 100);
    struct linear_step step = {.key = key, .effect = dice < 68 ? LINEAR_PUT : LINEAR_DELETE};
    if (plan->upkeep && prng_chance(&worker->prng, 4)) {
        return maintain(worker);
    }
    if (plan->lists && prng_chance(&worker->prng, 10)) {
        return list_once(worker);
    }
    if (dice < 25) {
        return read_once(worker, key, 0);
    }
    if (dice < 32) {
        return read_once(worker, key, tag);
    }
    if (dice < 42) {
        step.condition = LINEAR_IF_ABSENT;
    } else if (dice < 44) {
        step.condition = LINEAR_IF_PRESENT;
    } else if (dice < 56 || dice >= 90) {
        step.condition = tag != 0 ? LINEAR_IF_MATCH : LINEAR_ALWAYS;
        step.tag = tag;
    }
    return write_once(worker, step);
}

static void *work(void *arg)
{
    struct worker *worker = arg;
    struct crowd *crowd = worker->crowd;
    for (bool goes_on = true; goes_on;) {
        pthread_mutex_lock(&crowd->lock);
        crowd->sent++;
        pthread_cond_signal(&crowd->changed);
        pthread_mutex_unlock(&crowd->lock);
        goes_on = act(worker);
    }
    pthread_mutex_lock(&crowd->lock);
    crowd->ended++;
    pthread_cond_signal(&crowd->changed);
    pthread_mutex_unlock(&crowd->lock);
    return NULL;
}

struct crowd *crowd_new(const struct crowd_plan *plan, struct linear_history *history)
{
    struct crowd *crowd = test_alloc(sizeof *crowd);
    crowd->plan = *plan;
    crowd->history = history;
    pthread_mutex_init(&crowd->lock, NULL);
    pthread_cond_init(&crowd->changed, NULL);
    for (unsigned i = 0; i <= CROWD_CLIENTS_MAX; i++) {
        crowd->workers[i].crowd = crowd;
        crowd->workers[i].number = i;
        prng_init(&crowd->workers[i].prng, scramble64(plan->seed) + i);
    }
    return crowd;
}

void crowd_free(struct crowd *crowd)
{
    pthread_cond_destroy(&crowd->changed);
    pthread_mutex_destroy(&crowd->lock);
    free(crowd);
}

void crowd_start(struct crowd *crowd, const struct server *server)
{
    crowd->ended = 0;
    crowd->sent = 0;
    for (unsigned i = 0; i < crowd->plan.clients; i++) {
        struct worker *worker = &crowd->workers[i];
        worker->client = client_new(server);
        if (pthread_create(&worker->thread, NULL, work, worker) != 0) {
            abort();
        }
    }
}

void crowd_wait_sent(struct crowd *crowd, uint64_t n)
{
    pthread_mutex_lock(&crowd->lock);
    while (crowd->sent < n && crowd->ended == 0) {
        pthread_cond_wait(&crowd->changed, &crowd->lock);
    }
    pthread_mutex_unlock(&crowd->lock);
}

void crowd_join(struct crowd *crowd)
{
    for (unsigned i = 0; i < crowd->plan.clients; i++) {
        pthread_join(crowd->workers[i].thread, NULL);
        client_free(crowd->workers[i].client);
    }
}

void crowd_read_all(struct crowd *crowd, const struct server *server)
{
    struct worker *worker = &crowd->workers[CROWD_CLIENTS_MAX];
    worker->client = client_new(server);
    for (unsigned key = 0; key < crowd->plan.keys; key++) {
        (void)read_once(worker, key, 0);
    }
    client_free(worker->client);
}
