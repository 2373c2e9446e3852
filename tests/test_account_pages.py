"""The pages about one's own account, as a browser gets them: without JavaScript, and nothing typed is lost."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path

import pytest
from playwright.async_api import expect

from carbontrack.model import AuditAction, Origin, Role, UserStatus
from carbontrack.web.auth import AUTHENTICATOR
from carbontrack.web.present import program_name
from tests.support.chromium import Chromium
from tests.support.html import Browser, page, send
from tests.support.web import OTHER_SITE, PASSWORD, PEOPLE, SAME_ORIGIN, Portal, running_portal

NEW_PASSWORD = "green bushes after rain"
AMINA = {
    "first_name": "Amina",
    "last_name": "<Wanjiru>",
    "email": "amina@example.org",
    "phone_number": "+254 712 345678",
    "requested_role": "factory_clerk",
    "factory_id": "1",
    "password": NEW_PASSWORD,
}
HQ = Origin("hq@example.org")


@pytest.fixture
async def portal(tmp_path: Path) -> AsyncIterator[Portal]:
    async with running_portal(f"sqlite://{tmp_path / 'web.sqlite3'}") as running:
        yield running


async def may_sign_in(portal: Portal, email: str, password: str) -> bool:
    form = {"email": email, "password": password, "next": ""}
    answer = await portal.client().post("/login", data=form, headers=SAME_ORIGIN, allow_redirects=False)
    return answer.status == 303


async def code_for(portal: Portal, email: str) -> str:
    (user,) = await portal.core.store.users(email=email)
    code, _ = await portal.server.app[AUTHENTICATOR].make_code(user, HQ)
    return code


class TestAskingForAnAccount:
    async def test_the_sign_in_page_leads_there_and_the_rules_are_said_before_anything_is_typed(
        self, portal: Portal
    ) -> None:
        nobody = portal.client()
        assert 'href="/register"' in await page(nobody, "/login")

        shown = await page(nobody, "/register")

        assert "At least 10 characters" in shown
        assert "Kangaita" in shown
        assert "Operator" not in shown

    async def test_who_asks_is_told_what_happens_now_and_waits_for_headquarters(self, portal: Portal) -> None:
        status, shown = await send(portal.client(), "/register", AMINA)

        assert status == 303
        assert "Headquarters sees your request, and decides." in shown
        (user,) = await portal.core.store.users(email="amina@example.org")
        assert (user.status, user.role, user.factory_id) == (UserStatus.PENDING, Role.FACTORY_CLERK, 1)
        assert not await may_sign_in(portal, "amina@example.org", NEW_PASSWORD)

    async def test_what_does_not_fit_is_said_at_its_field_and_nothing_typed_is_lost_but_the_password(
        self, portal: Portal
    ) -> None:
        wrong = AMINA | {"email": "amina at home", "phone_number": "call me", "first_name": "A\tmina"}

        status, shown = await send(portal.client(), "/register", wrong)

        assert status == 422
        assert re.search(r'id="register-email"[^>]* aria-invalid="true"[^>]* autofocus', shown)
        assert "Write an e-mail address, such as wanjiru@example.org." in shown
        assert "Write 6 to 30 digits" in shown
        assert re.search(r'id="register-first_name-error">Has characters that cannot be shown', shown)
        assert 'value="amina at home"' in shown
        assert 'value="&lt;Wanjiru&gt;"' in shown
        assert '<option value="factory_clerk" selected>' in shown
        assert '<option value="1" selected>Kangaita' in shown
        assert NEW_PASSWORD not in shown

    async def test_a_password_that_many_people_use_is_refused_at_its_field(self, portal: Portal) -> None:
        status, shown = await send(portal.client(), "/register", AMINA | {"password": "1234567890"})

        assert status == 422
        assert re.search(r'id="register-password-error">[^<]*Take several words', shown)

    async def test_the_role_says_whether_there_is_a_factory(self, portal: Portal) -> None:
        status, shown = await send(portal.client(), "/register", AMINA | {"factory_id": ""})
        assert status == 409
        assert 'id="register-factory_id-error">This role belongs to a factory: choose which.<' in shown

        status, _ = await send(portal.client(), "/register", AMINA | {"requested_role": "auditor"})
        assert status == 303
        (user,) = await portal.core.store.users(email="amina@example.org")
        assert (user.role, user.factory_id) == (Role.AUDITOR, None)

    async def test_an_address_that_has_an_account_is_said_at_the_address(self, portal: Portal) -> None:
        status, shown = await send(portal.client(), "/register", AMINA | {"email": "Clerk@example.org"})

        assert status == 409
        assert 'id="register-email-error">The address clerk@example.org is registered already.<' in shown

    @pytest.mark.parametrize("wrong", [{"requested_role": "operator"}, {"requested_role": ""}, {"status": "active"}])
    async def test_nobody_asks_for_more_than_the_form_offers(self, portal: Portal, wrong: dict[str, str]) -> None:
        assert (await send(portal.client(), "/register", AMINA | wrong))[0] == 422
        assert await portal.core.store.users(status=UserStatus.PENDING) == []

    async def test_asking_again_and_again_is_refused_for_a_while(self, portal: Portal) -> None:
        for _ in range(10):
            await send(portal.client(), "/register", AMINA | {"password": "short"})

        answer = await portal.client().post("/register", data=AMINA, headers=SAME_ORIGIN)

        assert answer.status == 429
        assert int(answer.headers["Retry-After"]) > 0
        assert "Too many attempts." in await answer.text()

    async def test_another_sites_page_cannot_ask_in_somebodys_name(self, portal: Portal) -> None:
        assert (await portal.client().post("/register", data=AMINA, headers=OTHER_SITE)).status == 403

    async def test_who_is_signed_in_needs_no_account(self, portal: Portal) -> None:
        await page(await portal.browser("clerk@example.org"), "/register", 303)

    async def test_what_no_form_sends_is_no_mistake_of_ours(self, portal: Portal) -> None:
        kind = {"Content-Type": "application/x-www-form-urlencoded"}
        for body in (b"email=\xff\xfe", b"email=a%00b&password=x"):
            answer = await portal.client().post("/register", data=body, headers=SAME_ORIGIN | kind)
            assert answer.status in {400, 422}
        strange = {"Content-Type": "application/x-www-form-urlencoded; charset=klingon"}
        assert (await portal.client().post("/register", data=b"a=b", headers=SAME_ORIGIN | strange)).status == 400


class TestForgottenPassword:
    async def test_without_mail_the_page_says_who_has_codes(self, portal: Portal) -> None:
        shown = await page(portal.client(), "/forgot-password")

        assert "headquarters hands out codes" in shown
        assert "<form" not in shown.partition("<main")[2].partition("</main>")[0]
        assert 'href="/reset-password"' in shown

    async def test_with_mail_nobody_learns_from_the_answer_whether_there_is_such_an_account(
        self, tmp_path: Path
    ) -> None:
        mails: list[str] = []

        class Mailbox:
            async def send(self, to: str, subject: str, text: str) -> None:
                mails.append(to)

        async with running_portal(f"sqlite://{tmp_path / 'web.sqlite3'}", mailer=Mailbox()) as portal:
            assert "Send me a code" in await page(portal.client(), "/forgot-password")
            answers = [
                await send(portal.client(), "/forgot-password", {"email": email})
                for email in ("clerk@example.org", "nobody@example.org")
            ]

            assert answers[0] == answers[1]
            assert "If this address has an account, a code is on its way." in answers[0][1]
            assert set(mails) <= {"clerk@example.org"}

    async def test_a_code_gives_a_new_password_and_the_sign_in_page_says_so_once(self, portal: Portal) -> None:
        code = await code_for(portal, "clerk@example.org")
        client = portal.client()
        form = {"email": "clerk@example.org", "code": code.lower(), "new_password": NEW_PASSWORD}

        status, shown = await send(client, "/reset-password", form)

        assert status == 303
        assert "Your new password is set. Sign in with it." in shown
        assert "Your new password is set." not in await page(client, "/login")
        assert await may_sign_in(portal, "clerk@example.org", NEW_PASSWORD)

    async def test_a_wrong_code_is_said_at_the_code_and_a_bad_password_does_not_use_it_up(self, portal: Portal) -> None:
        code = await code_for(portal, "clerk@example.org")
        form = {"email": "clerk@example.org", "code": "AAAA-AAAA-AAAA", "new_password": NEW_PASSWORD}

        status, shown = await send(portal.client(), "/reset-password", form)
        assert status == 401
        assert 'id="reset-code-error">The code is wrong, was used already, or is over.' in shown
        assert 'value="AAAA-AAAA-AAAA"' in shown
        assert NEW_PASSWORD not in shown

        weak = form | {"code": code, "new_password": "short"}
        status, shown = await send(portal.client(), "/reset-password", weak)
        assert status == 422
        assert 'id="reset-new_password-error"' in shown
        assert (await send(portal.client(), "/reset-password", form | {"code": code}))[0] == 303


class TestOwnAccount:
    @pytest.mark.parametrize("email", PEOPLE)
    async def test_everybody_has_the_page_and_the_name_in_the_header_leads_there(
        self, portal: Portal, email: str
    ) -> None:
        browser = await portal.browser(email)

        shown = await page(browser, "/account")

        assert email in shown
        assert 'class="person" href="/account"' in shown

    async def test_who_is_not_signed_in_signs_in_first(self, portal: Portal) -> None:
        answer = await portal.client().get("/account", headers={"Accept": "text/html"}, allow_redirects=False)

        assert answer.status == 303
        assert answer.headers["Location"] == "/login?next=/account"

    async def test_name_telephone_and_language_are_changed_and_taken_away(self, portal: Portal) -> None:
        browser = await portal.browser("clerk@example.org")
        details = {"first_name": "Amina", "last_name": "Wanjiru", "phone_number": "+254 712 345678", "locale": "sw"}

        status, shown = await send(browser, "/account", details)

        assert status == 303
        assert "Your details are changed." in shown
        assert "<strong>Amina Wanjiru</strong>" in shown
        assert '<option value="sw" selected>Kiswahili' in shown
        await send(browser, "/account", details | {"phone_number": ""})
        (user,) = await portal.core.store.users(email="clerk@example.org")
        assert (user.first_name, user.phone_number, user.locale) == ("Amina", "", "sw")

    async def test_a_mistake_in_one_form_leaves_the_others_alone(self, portal: Portal) -> None:
        browser = await portal.browser("clerk@example.org")

        status, shown = await send(browser, "/account", {"first_name": "Amina", "phone_number": "none"})

        assert status == 422
        assert 'value="Amina"' in shown
        assert 'id="details-phone_number-error"' in shown
        assert shown.count('role="alert"') == 1

    async def test_nobody_gives_themselves_another_role(self, portal: Portal) -> None:
        browser = await portal.browser("clerk@example.org")

        assert (await send(browser, "/account", {"role": "hq_manager"}))[0] == 422
        assert (await portal.core.store.users(email="clerk@example.org"))[0].role is Role.FACTORY_CLERK

    async def test_a_new_password_signs_out_everywhere_but_here(self, portal: Portal) -> None:
        here, elsewhere = await portal.browser("clerk@example.org"), await portal.browser("clerk@example.org")
        form = {"current_password": "wrong", "new_password": NEW_PASSWORD}
        status, shown = await send(here, "/account/password", form)
        assert status == 403
        assert 'id="password-current_password-error">The current password is another one.<' in shown

        status, shown = await send(here, "/account/password", form | {"current_password": PASSWORD})

        assert status == 303
        assert "Your password is changed." in shown
        assert (await elsewhere.get("/account")).url.path == "/account"
        assert (await elsewhere.get("/account")).status == 401
        assert await may_sign_in(portal, "clerk@example.org", NEW_PASSWORD)
        assert not await may_sign_in(portal, "clerk@example.org", PASSWORD)

    async def test_where_somebody_is_signed_in_is_shown_and_ended(self, portal: Portal) -> None:
        here, phone = await portal.browser("clerk@example.org"), portal.client()
        phone.session.headers["User-Agent"] = "Mozilla/5.0 (Linux; Android 10; K) Chrome/140.0.0.0 Mobile Safari/537.36"
        form = {"email": "clerk@example.org", "password": PASSWORD}
        await phone.post("/login", data=form, headers=SAME_ORIGIN, allow_redirects=False)

        shown = await page(here, "/account")
        assert "Chrome on Android" in shown
        assert shown.count("This one") == 1
        (there,) = re.findall(r'action="(/account/sessions/\d+/end)"', shown)
        _, shown = await send(here, there)

        assert "You are signed out there." in shown
        assert "Chrome on Android" not in shown
        assert (await phone.get("/account")).status == 401
        assert (await send(here, there))[0] == 404

    async def test_nobody_ends_another_persons_session_or_token(self, portal: Portal) -> None:
        clerk, manager = await portal.browser("clerk@example.org"), await portal.browser("manager@example.org")
        await send(manager, "/account/tokens", {"name": "Export", "scopes": "read", "days": ""})
        (theirs,) = await portal.core.store.users(email="manager@example.org")
        (session,) = await portal.core.store.sessions(theirs.id, portal.now)
        (token,) = await portal.core.store.api_tokens(theirs.id)

        assert (await send(clerk, f"/account/sessions/{session.id}/end"))[0] == 404
        assert (await send(clerk, f"/account/tokens/{token.id}/revoke"))[0] == 404
        await page(manager, "/account")
        assert len(await portal.core.store.api_tokens(theirs.id)) == 1


class TestTokens:
    async def make(self, portal: Portal, browser: Browser, **changed: object) -> tuple[int, str]:
        form = {"name": "Monthly export", "scopes": "read", "days": "30"} | changed
        return await send(browser, "/account/tokens", form)

    async def test_a_token_is_shown_once_and_works(self, portal: Portal) -> None:
        browser = await portal.browser("clerk@example.org")

        status, shown = await self.make(portal, browser)

        assert status == 303
        (token,) = re.findall(r'class="secret">(ct_[^<]+)<', shown)
        assert "Copy it now" in shown
        assert token not in await page(browser, "/account")
        program = portal.client()
        answer = await program.get("/api/me/", headers={"Authorization": f"Bearer {token}"})
        assert (await answer.json())["email"] == "clerk@example.org"

    async def test_it_ends_when_it_was_said_to(self, portal: Portal) -> None:
        browser = await portal.browser("clerk@example.org")
        _, shown = await self.make(portal, browser)
        (token,) = re.findall(r'class="secret">(ct_[^<]+)<', shown)
        program = portal.client()
        program.session.headers["Authorization"] = f"Bearer {token}"

        portal.now += timedelta(days=30)
        assert (await program.get("/api/me/")).status == 200
        portal.now += timedelta(days=1)
        assert (await program.get("/api/me/")).status == 401

    async def test_a_revoked_token_is_refused_at_once(self, portal: Portal) -> None:
        browser = await portal.browser("clerk@example.org")
        _, shown = await self.make(portal, browser, days="")
        (token,) = re.findall(r'class="secret">(ct_[^<]+)<', shown)
        assert "does not end" in shown
        (revoke,) = re.findall(r'action="(/account/tokens/\d+/revoke)"', shown)

        _, shown = await send(browser, revoke)

        assert "The token is revoked." in shown
        answer = await portal.client().get("/api/me/", headers={"Authorization": f"Bearer {token}"})
        assert answer.status == 401

    async def test_several_things_may_be_allowed_and_one_must_be(self, portal: Portal) -> None:
        browser = await portal.browser("clerk@example.org")

        status, shown = await self.make(portal, browser, scopes=[])
        assert status == 422
        assert 'id="token-scopes-error">Choose at least one.<' in shown
        assert 'value="Monthly export"' in shown
        assert re.search(r"<details open>\s*<summary>Make a token", shown)

        wrong_name = [("name", ""), ("scopes", "read"), ("scopes", "entries"), ("days", "90")]
        answer = await browser.post("/account/tokens", data=wrong_name, headers=SAME_ORIGIN)
        assert answer.status == 422
        assert (await answer.text()).count(" checked") == 2
        answer = await browser.post("/account/tokens", data=[("name", "Both"), *wrong_name[1:]], headers=SAME_ORIGIN)
        (user,) = await portal.core.store.users(email="clerk@example.org")
        (token,) = await portal.core.store.api_tokens(user.id)
        assert sorted(token.scopes) == ["entries", "read"]

    async def test_a_program_cannot_make_itself_more(self, portal: Portal) -> None:
        _, shown = await self.make(portal, await portal.browser("clerk@example.org"))
        (token,) = re.findall(r'class="secret">(ct_[^<]+)<', shown)
        program = portal.client()
        program.session.headers["Authorization"] = f"Bearer {token}"

        for path in ("/account", "/account/password", "/account/tokens", "/account/tokens/1/revoke"):
            assert (await program.post(path, data={"name": "x"})).status == 403, path


class TestNotices:
    async def test_by_https_the_cookie_is_bound_to_the_host(self, tmp_path: Path) -> None:
        async with running_portal(f"sqlite://{tmp_path / 'web.sqlite3'}", secure_cookies=True) as portal:
            form = {"email": "nobody@example.org"}
            answer = await portal.client().post(
                "/forgot-password", data=form, headers=SAME_ORIGIN, allow_redirects=False
            )

        cookie = answer.headers["Set-Cookie"]
        assert cookie.startswith("__Host-carbontrack_notice=")
        for part in ("HttpOnly", "Secure", "SameSite=Strict", "Path=/"):
            assert part in cookie
        assert "Max-Age" not in cookie, "it is gone when the browser is closed"

    @pytest.mark.parametrize("value", ["", "x", "e30=", "bnVsbA==", "/////w==", "eyJ0ZXh0IjogMX0="])
    async def test_what_is_none_of_ours_says_nothing(self, portal: Portal, value: str) -> None:
        answer = await portal.client().get("/login", headers={"Cookie": f"carbontrack_notice={value}"})

        assert answer.status == 200
        assert 'id="notice"' not in await answer.text()


@pytest.mark.parametrize(
    ("user_agent", "name"),
    [
        ("Mozilla/5.0 (Windows NT 10.0; Win64; x64) Chrome/140.0.0.0 Safari/537.36 Edg/140.0", "Edge on Windows"),
        ("Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0", "Firefox on Linux"),
        ("Mozilla/5.0 (iPhone; CPU iPhone OS 18_0 like Mac OS X) Version/18.0 Safari/604.1", "Safari on an iPhone"),
        ("Mozilla/5.0 (Linux; Android 10; K) SamsungBrowser/28.0 Chrome/130.0", "Samsung Internet on Android"),
        ("Mozilla/5.0 (compatible)", "A browser"),
        ("curl/8.5.0", "curl"),
        ("", "A program"),
    ],
)
def test_a_browser_is_named_as_people_name_it(user_agent: str, name: str) -> None:
    assert program_name(user_agent) == name


async def test_from_asking_to_an_own_password_in_a_real_browser_without_javascript(
    portal: Portal, chromium: Chromium
) -> None:
    url = str(portal.server.make_url("/")).rstrip("/")
    options = {"viewport": {"width": 390, "height": 844}, "java_script_enabled": False}
    amina, hq = await chromium.new_page(**options), await chromium.new_page(**options)
    await amina.goto(f"{url}/login")
    await amina.get_by_role("link", name="Ask for an account").click()
    await amina.get_by_label("First name").fill("Amina")
    await amina.get_by_label("Last name").fill("Wanjiru")
    await amina.get_by_label("E-mail").fill("amina@example.org")
    await amina.get_by_label("What you are").select_option(label="Auditor")
    await expect(amina.get_by_label("Your factory")).to_be_hidden()
    await amina.get_by_label("What you are").select_option(label="Factory manager")
    await amina.get_by_label("Your factory").select_option(label="Mungania")
    await amina.get_by_label("Password").fill(NEW_PASSWORD)
    await amina.keyboard.press("Enter")
    await expect(amina.get_by_role("heading", name="Your request is with headquarters")).to_be_visible()

    await hq.goto(f"{url}/login")
    await hq.get_by_label("E-mail").fill("hq@example.org")
    await hq.get_by_label("Password").fill(PASSWORD)
    await hq.get_by_role("button", name="Sign in").click()
    await hq.locator("summary", has_text="More").click()
    await hq.get_by_role("link", name="People 1 waiting for approval").click()
    request = hq.get_by_role("listitem").filter(has_text="Amina Wanjiru")
    await expect(request).to_contain_text("asks to be Factory manager at Mungania")
    await request.get_by_label("Role").select_option(label="Factory clerk")
    await hq.get_by_role("button", name="Approve Amina Wanjiru").click()
    await expect(hq.get_by_role("status")).to_contain_text("Amina Wanjiru may sign in now, as Factory clerk, Mungania.")

    await amina.get_by_role("button", name="To the sign-in page").click()
    await amina.get_by_label("E-mail").fill("amina@example.org")
    await amina.get_by_label("Password").fill(NEW_PASSWORD)
    await amina.get_by_role("button", name="Sign in").click()
    await expect(amina.get_by_role("heading", name="Mungania")).to_be_visible()
    await amina.get_by_role("link", name="Your account: Amina Wanjiru Factory clerk").click()
    await amina.get_by_label("Current password").fill(NEW_PASSWORD)
    await amina.get_by_label("New password").fill("a kettle over the fire")
    await amina.get_by_role("button", name="Change the password").click()
    await expect(amina.get_by_role("status")).to_contain_text("Your password is changed.")
    assert await amina.evaluate("document.documentElement.scrollWidth") == 390
    assert await may_sign_in(portal, "amina@example.org", "a kettle over the fire")
    actions = [event.action for event in await portal.core.store.audit_events(actor="amina@example.org")]
    assert actions[0] == AuditAction.USER_SIGNED_IN
    assert AuditAction.USER_PASSWORD_SET in actions
