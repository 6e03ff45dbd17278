/* A platform's server that publishes by REST: `connections` requests at once, each sent when the last one is answered.
 *
 * client PORT KEY CONNECTIONS SECONDS BATCH NAME LIMIT RECEIPTS BYTES < accounts
 *
 * Events are named <NAME>-<number> and are of the accounts in turn, BATCH in a request. At most LIMIT are unanswered or
 * undelivered: a delivered one is a receipt of BYTES in the file RECEIPTS, as sink.c appends it. Prints, as JSON, the
 * events accepted, the other answers, the seconds, and the median and 99th percentile of the answers in milliseconds.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <err.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

enum { ROOM = 512 * 1024, ACCOUNTS = 10000, CONNECTIONS = 1024, ANSWERS = 4 * 1000 * 1000 };

struct connection {
    int fd, is_busy;
    double since;
    size_t length;
    char received[ROOM];
};

static char accounts[ACCOUNTS][64], body[ROOM], request[ROOM + 1024];
static struct connection *connections[CONNECTIONS];
static float answers[ANSWERS];
static size_t accounts_count, answers_count;
static long sent, accepted, refused;
static uint16_t port;
static int epoll;

static double now(void)
{
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (double)time.tv_sec + 1e-9 * (double)time.tv_nsec;
}

static size_t write_event(char *place, const char *name)
{
    struct timespec time;
    struct tm utc;
    char at[32];
    clock_gettime(CLOCK_REALTIME, &time);
    strftime(at, sizeof at, "%Y-%m-%dT%H:%M:%S", gmtime_r(&time.tv_sec, &utc));
    int length = sprintf(
        place,
        "{\"id\":\"%s-%ld\",\"type\":\"session.launched\",\"accountId\":\"%s\",\"createdAt\":\"%s.%03ldZ\","
        "\"data\":{\"sessionId\":\"%s-%ld\",\"packageId\":\"pkg_1\",\"learnerId\":\"learner-42\"}}",
        name, sent, accounts[(size_t)sent % accounts_count], at, time.tv_nsec / 1000000, name, sent);
    sent++;
    return (size_t)length;
}

static void ask(struct connection *to, const char *key, long batch, const char *name)
{
    size_t length = 0;
    if (batch > 1)
        length += (size_t)sprintf(body, "{\"events\":[");
    for (long number = 0; number < batch; number++) {
        if (number)
            body[length++] = ',';
        length += write_event(body + length, name);
    }
    if (batch > 1)
        length += (size_t)sprintf(body + length, "]}");
    int head = sprintf(
        request,
        "POST /v1/events HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer %s\r\n"
        "Content-Type: application/json\r\nContent-Length: %zu\r\n\r\n",
        key, length);
    memcpy(request + head, body, length);
    to->since = now();
    to->is_busy = 1;
    to->length = 0;
    for (size_t done = 0, whole = (size_t)head + length; done < whole;) {
        ssize_t some = send(to->fd, request + done, whole - done, MSG_NOSIGNAL);
        if (some < 0)
            err(1, "send");
        done += (size_t)some;
    }
}

static void join(uint32_t number)
{
    struct epoll_event event = {.events = EPOLLIN, .data.u32 = number};
    struct sockaddr_in place = {.sin_family = AF_INET, .sin_port = htons(port)};
    int yes = 1, fd = socket(AF_INET, SOCK_STREAM, 0);
    place.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    if (fd < 0 || connect(fd, (struct sockaddr *)&place, sizeof place))
        err(1, "connect");
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &yes, sizeof yes);
    connections[number]->fd = fd;
    epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &event);
}

/* Read what there is; the answer is whole when its body is. */
static void hear(uint32_t number, long batch)
{
    struct connection *from = connections[number];
    ssize_t some = recv(from->fd, from->received + from->length, ROOM - 1 - from->length, 0);
    if (some <= 0 && from->is_busy)
        errx(1, "the API ended a connection without an answer");
    if (some <= 0) {
        /* It was idle for too long. */
        close(from->fd);
        join(number);
        return;
    }
    from->length += (size_t)some;
    from->received[from->length] = 0;
    char *end = strstr(from->received, "\r\n\r\n"), *field = strcasestr(from->received, "\r\ncontent-length:");
    if (!end || !field || from->length < (size_t)(end + 4 - from->received) + strtoul(field + 17, NULL, 10))
        return;
    if (strncmp(from->received, "HTTP/1.1 202", 12) == 0)
        accepted += batch;
    else
        refused++;
    if (answers_count < ANSWERS)
        answers[answers_count++] = (float)(1000 * (now() - from->since));
    from->is_busy = 0;
}

static long delivered(const char *receipts, long bytes)
{
    struct stat found;
    if (stat(receipts, &found))
        err(1, "%s", receipts);
    return found.st_size / bytes;
}

static int in_order(const void *one, const void *other)
{
    float first = *(const float *)one, second = *(const float *)other;
    return (first > second) - (first < second);
}

int main(int count, char **given)
{
    if (count != 10)
        errx(2, "client PORT KEY CONNECTIONS SECONDS BATCH NAME LIMIT RECEIPTS BYTES < accounts");
    const char *key = given[2], *name = given[6], *receipts = given[8];
    long wanted = atol(given[3]), batch = atol(given[5]), limit = atol(given[7]), bytes = atol(given[9]);
    double began, ends;

    port = (uint16_t)atoi(given[1]);
    epoll = epoll_create1(0);
    while (accounts_count < ACCOUNTS && scanf("%63s", accounts[accounts_count]) == 1)
        accounts_count++;
    if (!accounts_count || wanted < 1 || wanted > CONNECTIONS || batch < 1 || batch * 300 > ROOM)
        errx(2, "no accounts, or too many connections or events");
    for (long number = 0; number < wanted; number++) {
        if (!(connections[number] = calloc(1, sizeof **connections)))
            err(1, "a connection");
        join((uint32_t)number);
    }
    long before = delivered(receipts, bytes), busy = 0;
    began = now();
    ends = began + atof(given[4]);
    for (int is_over = 0; busy || !is_over; is_over = now() >= ends) {
        long room = limit - (sent - (delivered(receipts, bytes) - before));
        for (long number = 0; !is_over && number < wanted && room >= batch; number++)
            if (!connections[number]->is_busy) {
                ask(connections[number], key, batch, name);
                busy++;
                room -= batch;
            }
        struct epoll_event events[64];
        int found = epoll_wait(epoll, events, 64, 1);
        for (int place = 0; place < found; place++) {
            struct connection *from = connections[events[place].data.u32];
            int was_busy = from->is_busy;
            hear(events[place].data.u32, batch);
            busy -= was_busy && !from->is_busy;
        }
    }
    double seconds = now() - began;
    qsort(answers, answers_count, sizeof *answers, in_order);
    printf("{\"accepted\": %ld, \"refused\": %ld, \"seconds\": %.3f, \"p50_ms\": %.2f, \"p99_ms\": %.2f}\n", accepted,
           refused, seconds, answers_count ? answers[answers_count / 2] : 0.0f,
           answers_count ? answers[answers_count * 99 / 100] : 0.0f);
    return 0;
}
