/* values.c - text to value and back. Units are two tables; the rest is careful digits. */
#include "service/values.h"

#include <arpa/inet.h>
#include <assert.h>
#include <inttypes.h>
#include <netinet/in.h>
#include <stdio.h>
#include <string.h>

struct unit {
    const char *name;
    uint64_t factor;
};

/* Smallest first, each a multiple of the one before. */
static const struct unit size_units[] = {
    {"B", 1}, {"KiB", 1ULL << 10}, {"MiB", 1ULL << 20}, {"GiB", 1ULL << 30}, {"TiB", 1ULL << 40},
};
static const struct unit duration_units[] = {
    {"ms", 1},
    {"s", 1000},
    {"m", 60000},
    {"h", 3600000},
};

#define LENGTH(array) (sizeof(array) / sizeof((array)[0]))

/* Takes decimal digits; returns where they end, or NULL if there are none or too many. */
static const char *digits(const char *text, uint64_t *ret_value)
{
    uint64_t value = 0;
    const char *p = text;

    for (; *p >= '0' && *p <= '9'; p++) {
        if (__builtin_mul_overflow(value, 10, &value) ||
            __builtin_add_overflow(value, (uint64_t)(*p - '0'), &value))
            return NULL;
    }
    if (p == text)
        return NULL;
    *ret_value = value;
    return p;
}

static bool scale(uint64_t value, const char *name, const struct unit units[], size_t n,
                  uint64_t *ret_value)
{
    for (size_t i = 0; i < n; i++) {
        if (strcmp(name, units[i].name) == 0)
            return !__builtin_mul_overflow(value, units[i].factor, ret_value);
    }
    return false;
}

bool count_parse(const char *text, uint64_t *ret_count)
{
    uint64_t value;
    const char *rest = digits(text, &value);

    if (!rest || *rest)
        return false;
    *ret_count = value;
    return true;
}

bool size_parse(const char *text, uint64_t *ret_bytes)
{
    uint64_t value;
    uint64_t bytes;
    const char *unit = digits(text, &value);

    if (!unit || !scale(value, *unit ? unit : "B", size_units, LENGTH(size_units), &bytes))
        return false;
    *ret_bytes = bytes;
    return true;
}

bool duration_parse(const char *text, uint64_t *ret_ms)
{
    uint64_t value;
    uint64_t ms;
    const char *unit = digits(text, &value);

    if (!unit)
        return false;
    if (!*unit && value == 0)
        unit = "ms";
    if (!scale(value, unit, duration_units, LENGTH(duration_units), &ms))
        return false;
    *ret_ms = ms;
    return true;
}

static void format(uint64_t value, const struct unit units[], size_t n, char text[])
{
    size_t i = n - 1;

    while (i > 0 && (value == 0 || value % units[i].factor != 0))
        i--;
    (void)snprintf(text, VALUE_TEXT_BYTES, "%" PRIu64 "%s", value / units[i].factor, units[i].name);
}

void size_format(uint64_t bytes, char text[static VALUE_TEXT_BYTES])
{
    format(bytes, size_units, LENGTH(size_units), text);
}

void duration_format(uint64_t ms, char text[static VALUE_TEXT_BYTES])
{
    format(ms, duration_units, LENGTH(duration_units), text);
}

static bool set_ipv4(const char *host, uint16_t port, struct address *address)
{
    struct sockaddr_in *in = (struct sockaddr_in *)&address->sockaddr;

    in->sin_family = AF_INET;
    in->sin_port = htons(port);
    address->length = sizeof(*in);
    if (strcmp(host, "localhost") == 0)
        host = "127.0.0.1";
    return inet_pton(AF_INET, host, &in->sin_addr) == 1;
}

static bool set_ipv6(const char *host, uint16_t port, struct address *address)
{
    struct sockaddr_in6 *in6 = (struct sockaddr_in6 *)&address->sockaddr;

    in6->sin6_family = AF_INET6;
    in6->sin6_port = htons(port);
    address->length = sizeof(*in6);
    return inet_pton(AF_INET6, host, &in6->sin6_addr) == 1;
}

bool address_parse(const char *text, struct address *ret_address)
{
    struct address address = {0};
    char host[INET6_ADDRSTRLEN];
    const char *colon = strrchr(text, ':');
    uint64_t port;
    bool bracketed = text[0] == '[';
    bool valid;

    if (!colon || !count_parse(colon + 1, &port) || port > UINT16_MAX)
        return false;
    if (bracketed && (colon == text + 1 || colon[-1] != ']'))
        return false;
    const char *begin = text + bracketed;
    size_t length = (size_t)(colon - begin) - bracketed;
    if (length >= sizeof(host))
        return false;
    memcpy(host, begin, length);
    host[length] = '\0';
    valid = bracketed ? set_ipv6(host, (uint16_t)port, &address)
                      : set_ipv4(host, (uint16_t)port, &address);
    if (valid)
        *ret_address = address;
    return valid;
}

uint16_t address_port(const struct address *address)
{
    const struct sockaddr *any = (const struct sockaddr *)&address->sockaddr;

    if (any->sa_family == AF_INET6)
        return ntohs(((const struct sockaddr_in6 *)any)->sin6_port);
    assert(any->sa_family == AF_INET);
    return ntohs(((const struct sockaddr_in *)any)->sin_port);
}

void address_format(const struct address *address, char text[static ADDRESS_TEXT_BYTES])
{
    const struct sockaddr *any = (const struct sockaddr *)&address->sockaddr;
    char host[INET6_ADDRSTRLEN];
    unsigned port = address_port(address);

    if (any->sa_family == AF_INET6) {
        inet_ntop(AF_INET6, &((const struct sockaddr_in6 *)any)->sin6_addr, host, sizeof(host));
        (void)snprintf(text, ADDRESS_TEXT_BYTES, "[%s]:%u", host, port);
    } else {
        inet_ntop(AF_INET, &((const struct sockaddr_in *)any)->sin_addr, host, sizeof(host));
        (void)snprintf(text, ADDRESS_TEXT_BYTES, "%s:%u", host, port);
    }
}

bool address_is_loopback(const struct address *address)
{
    const struct sockaddr *any = (const struct sockaddr *)&address->sockaddr;

    if (any->sa_family == AF_INET6) {
        const struct in6_addr *ip = &((const struct sockaddr_in6 *)any)->sin6_addr;

        return IN6_IS_ADDR_LOOPBACK(ip) || (IN6_IS_ADDR_V4MAPPED(ip) && ip->s6_addr[12] == 127);
    }
    return (ntohl(((const struct sockaddr_in *)any)->sin_addr.s_addr) >> 24) == 127;
}
