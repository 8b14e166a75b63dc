"""Looks at the status page as a person would: alive, light and dark, on a screen and a phone, and at the gateway's end."""

import os
import pathlib
import signal
import sys
import time
import urllib.error
import urllib.request

from chromium import Chromium
from work import HOT_USER

PICTURES = pathlib.Path(sys.argv[1])
ADMIN, OPERATOR, GATEWAY = os.environ["ADMIN"], os.environ["OPERATOR"], int(os.environ["GATEWAY"])
SECRETS = [os.environ[name] for name in ("OPERATOR", "SPARK", "ADS")]
PAGE = f"http://{ADMIN}/"

# Seconds in which everything is there at once.
LOOKS = 40

# Numbers of the page by what stands above them.
TILE = """(title => {
  const tile = [...document.querySelectorAll('.tile')].find(tile => tile.querySelector('h2').textContent === title);
  return tile.querySelector('.value span').textContent.replace(/,/g, '');
})"""
PANEL = """(title => {
  const panel = [...document.querySelectorAll('.panel')].find(panel => panel.querySelector('h2 span').textContent === title);
  return [...panel.querySelectorAll('tbody tr')].map(row => [...row.cells].map(cell => cell.textContent));
})"""


def check(what, holds):
    if not holds:
        raise SystemExit(f"not so: {what}")
    print("ok:", what)


def tile(browser, title):
    return browser.evaluate(f"{TILE}({title!r})")


def panel(browser, title):
    return browser.evaluate(f"{PANEL}({title!r})")


def is_live(browser):
    browser.wait_for("rows are written", f"parseFloat({TILE}('Rows written')) > 0", 60)
    browser.wait_for("a session is listed", f"{PANEL}('Write sessions').length > 0")
    browser.wait_for("rejects are listed", f"{PANEL}('Rejects by reason').length > 0")
    browser.wait_for("two principals are listed", f"{PANEL}('Principals').length > 1")
    browser.wait_for("a hot key is listed", f"{PANEL}('Hot partition keys').length > 0", 60)
    browser.wait_for("reads are counted", f"parseFloat({TILE}('Keys read')) > 0", 60)
    browser.wait_for("memory is reserved", f"parseFloat({TILE}('Memory for rows')) > 0", 60)
    # A value of now may be nought for a moment, between two batches: all must be there at once, within a while.
    for _ in range(LOOKS - 1):
        try:
            return shows_everything(browser)
        except SystemExit as missing:
            print(f"{missing}; once more")
            time.sleep(1)
    return shows_everything(browser)


def shows_everything(browser):
    check("it is healthy", browser.evaluate("document.querySelector('#state strong').textContent") == "Healthy")
    for title in ("Rows written", "Received", "Ack latency, p99", "Write units"):
        text = tile(browser, title)
        check(f"{title}: {text}", float(text.split()[0]) > 0)
    sessions = panel(browser, "Write sessions")
    check(f"a session writes card_features: {sessions}", any("card_features" in row for row in sessions))
    check("its principal is spark-prod", any("spark-prod" in row[:2] for row in sessions))
    tables = {row[0]: float(row[1].replace(",", "")) for row in panel(browser, "DynamoDB tables")}
    check(f"the tables take units: {tables}", tables.get("card_features", 0) > 0 and tables.get("ad_clicks", 0) > 0)
    principals = {row[0] for row in panel(browser, "Principals")}
    check(f"both principals are shown: {principals}", {"spark-prod", "ads-features"} <= principals)
    rejects = [row[0] for row in panel(browser, "Rejects by reason")]
    check(f"rejects have their reason: {rejects}", rejects == ["too long"])
    hot = panel(browser, "Hot partition keys")
    check(f"the hot key is one of ad_clicks: {hot}", any(row[1] == "ad_clicks" for row in hot))
    points = browser.evaluate("document.querySelector('.plot .first').getAttribute('d').length")
    check("the rows are plotted", points > 40)


def shows_no_secret(browser):
    shown = browser.evaluate("document.documentElement.outerHTML")
    for secret in [HOT_USER, "much-too-long", *SECRETS]:
        check(f"no `{secret[:9]}...` in the page", secret not in shown and secret[-20:] not in shown)


def fits(browser, width, scheme):
    browser.look(width, 900, scheme)
    browser.run(1.5)
    wide = browser.evaluate("document.documentElement.scrollWidth")
    check(f"{width} px, {scheme}: nothing sticks out ({wide} px)", wide <= width)
    names = browser.evaluate("[...document.querySelectorAll('svg[role=img]')].every(svg => svg.getAttribute('aria-label'))")
    check("every plot has a text for who cannot see it", names)
    browser.screenshot(PICTURES / f"status-{width}-{scheme}.png")


def refuses_strangers():
    try:
        urllib.request.urlopen(PAGE + "status.json", timeout=10)
    except urllib.error.HTTPError as error:
        check("without a key there is nothing to see", error.code == 401)
        return
    raise SystemExit("the page was shown without a key")


def main():
    refuses_strangers()
    browser = Chromium(os.environ["CHROMIUM"], password=OPERATOR)
    try:
        browser.look(1280, 900, "light")
        browser.call("Page.navigate", url=PAGE)
        browser.wait_for("the page is there", "!!document.querySelector('.tile')")
        check("the browser was asked for the key", browser.challenges > 0)
        is_live(browser)
        # Some history for the plots.
        browser.run(float(os.environ.get("HISTORY_SECONDS", "8")))
        shows_no_secret(browser)
        for width in (1280, 390):
            for scheme in ("light", "dark"):
                fits(browser, width, scheme)
        hosts = {url for url in browser.requests if not url.startswith((PAGE, "about:", "data:"))}
        check(f"no request left the host: {hosts}", not hosts)
        # The first request has no key yet, which is how a browser learns that it needs one.
        errors = [text for text in browser.console if "401" not in text]
        check(f"the console is silent: {errors}", not errors)

        browser.look(1280, 900, "light")
        os.kill(GATEWAY, signal.SIGTERM)
        # A gateway whose clients leave at once may be gone before the page asks again.
        leaving = "['Draining', 'Lost contact'].includes(document.querySelector('#state strong').textContent)"
        browser.wait_for("it drains, or is gone", leaving, 10)
        browser.screenshot(PICTURES / "status-draining.png")
        browser.wait_for("contact is lost", "document.querySelector('#state strong').textContent === 'Lost contact'", 30)
        said = browser.evaluate("document.querySelector('#state span').textContent")
        check(f"it says of when it is: {said}", " ago." in said)
        time.sleep(1)
        browser.screenshot(PICTURES / "status-lost.png")
        shows_no_secret(browser)
    finally:
        browser.close()


main()
