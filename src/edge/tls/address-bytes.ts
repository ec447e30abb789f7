// IP addresses as the bytes that certificates carry (RFC 5280 section 4.2.1.6).
import ipaddr from "ipaddr.js";

/** 4 or 16 bytes; throws when the text is not an address. */
export const parse = (address: string): Buffer => Buffer.from(ipaddr.parse(address).toByteArray());
